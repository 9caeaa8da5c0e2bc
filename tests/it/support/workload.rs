//! [`Workload`]: concurrent writers that do at random what applications do, and what they should not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use walcast::postgres::Connection;

use super::database::connect;
use super::{DEADLINE, Database, eventually};

/// The options of the writers.
#[derive(Clone, Copy)]
pub struct Pace {
    pub workers: usize,
    /// The longest rest between two transactions.
    pub rest: Duration,
    /// Of a thousand transactions, how many are big: thousands of rows, and several frames.
    pub big: u32,
}

/// Writers at work.
pub struct Workload {
    seed: u64,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
}

/// The tables: one with everything in it, one whose key changes, one of the default identity that is appended to, and
/// one whose sum never changes. One that is not published.
pub const SCHEMA: &str = "
    CREATE TABLE item (id bigint PRIMARY KEY, owner int NOT NULL, state text, n int, price numeric, at timestamptz,
                       note text);
    ALTER TABLE item REPLICA IDENTITY FULL;
    CREATE TABLE part (a int, b text, v int, PRIMARY KEY (a, b));
    ALTER TABLE part REPLICA IDENTITY FULL;
    CREATE TABLE entry (worker int, n bigint, tag text, PRIMARY KEY (worker, n));
    CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
    ALTER TABLE account REPLICA IDENTITY FULL;
    CREATE TABLE unpublished (id serial PRIMARY KEY, note text);
    CREATE SEQUENCE item_id;
    CREATE PUBLICATION pub FOR TABLE item, part, entry, account;
";
/// The sum of the accounts.
pub const MONEY: i64 = 8 * 1000;

impl Workload {
    /// Starts the writers. The seed is that of the environment's `WALCAST_SEED`, or new each time.
    pub fn start(database: &Database, pace: Pace) -> Workload {
        Workload::start_with(database, pace, |_| None)
    }

    /// The same, with statements on further tables between those on the workload's own.
    pub fn start_with(database: &Database, pace: Pace, further: Further) -> Workload {
        let seed =
            std::env::var("WALCAST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        database
            .sql("INSERT INTO account SELECT g, 1000 FROM generate_series(1, 8) g ON CONFLICT DO NOTHING");
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let workers = (0..pace.workers).map(|number| {
            let mut writer = Writer {
                rng: Rng::with_seed(seed.wrapping_add(number as u64)),
                number,
                n: 0,
                pace,
                further,
                url: database.url().to_owned(),
            };
            let stop = Arc::clone(&stop);
            let committed = Arc::clone(&committed);
            thread::spawn(move || writer.run(&stop, &committed))
        });
        Workload {
            seed,
            workers: workers.collect(),
            stop,
            committed,
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of transactions that were committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until so many more transactions were committed.
    pub fn goes_on(&self, transactions: u64) {
        let goal = self.committed() + transactions;
        eventually("the writers go on", || (self.committed() >= goal).then_some(()));
    }

    /// Stops the writers and waits for their last transactions.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.join().unwrap();
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if thread::panicking() {
            eprintln!("WALCAST_SEED={}", self.seed);
        }
    }
}

struct Writer {
    rng: Rng,
    number: usize,
    /// Its next entry.
    n: u64,
    pace: Pace,
    further: Further,
    url: String,
}

/// A statement on a table that is not the workload's, now and then.
pub type Further = fn(&mut Rng) -> Option<String>;

/// The time that a transaction may take at most. It is far more than any takes: beyond it something holds the writers
/// up, a commit that waits for a synchronous standby for example.
const LONGEST: Duration = Duration::from_secs(30);

impl Writer {
    fn run(&mut self, stop: &AtomicBool, committed: &AtomicU64) {
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let open: &mut Connection = match &mut connection {
                Some(open) => open,
                None => match connect(&self.url) {
                    Ok(mut open) => {
                        open.set_read_timeout(Some(DEADLINE));
                        connection.insert(open)
                    }
                    // The server is away.
                    Err(_) => {
                        thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                },
            };
            let transaction = self.transaction();
            let began = Instant::now();
            let answer = open.query(&transaction);
            let took = began.elapsed();
            assert!(took < LONGEST, "a writer was held up for {took:?}: {transaction}");
            match answer {
                Ok(_) => {
                    committed.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.is_fatal() => connection = None,
                // A deadlock, or two rows of a key.
                Err(_) => drop(open.query("ROLLBACK")),
            }
            thread::sleep(self.pace.rest.mul_f64(self.rng.f64()));
        }
    }

    fn transaction(&mut self) -> String {
        if self.rng.u32(0..1000) < self.pace.big {
            return self.big();
        }
        let statements = self.rng.usize(1..6);
        let mut sql = "BEGIN;\n".to_owned();
        for _ in 0..statements {
            if self.rng.u32(0..8) == 0 {
                let aborted = self.statement().replace("note '", "note 'ABORTED");
                let aborted = aborted.replace("'said ", "'ABORTED said ");
                sql += &format!(
                    "SAVEPOINT s; {aborted}; INSERT INTO item (id, owner, note) VALUES (nextval('item_id'), 1, 'ABORTED');
                     ROLLBACK TO s;\n"
                );
            }
            sql += &self.statement();
            sql += ";\n";
        }
        if self.rng.u32(0..12) == 0 {
            return sql + "INSERT INTO part VALUES (0, 'ABORTED', 0), (1, 'ABORTED', 0); ROLLBACK";
        }
        sql + "COMMIT"
    }

    /// An item's, a part's or another table's share of a transaction.
    fn statement(&mut self) -> String {
        let rng = &mut self.rng;
        if let Some(statement) = (self.further)(rng) {
            return statement;
        }
        let owner = rng.u32(1..6);
        let state = rng.choice(["open", "paid", "sent", "gone"]).unwrap();
        let some = format!(
            "WHERE id IN (SELECT id FROM item ORDER BY hashint8(id # {}) LIMIT {})",
            rng.u32(..1 << 30),
            rng.u32(1..4)
        );
        let a = rng.u32(0..40);
        let b = rng.u32(0..5);
        let v = rng.i32(-50..50);
        match rng.u32(0..100) {
            0..25 => {
                let rows = rng.u32(1..5);
                format!(
                    "INSERT INTO item SELECT nextval('item_id'), {owner}, '{state}', g * {v}, g * 1.10, now(), note
                     FROM generate_series(1, {rows}) g, (SELECT {}) AS n(note)",
                    text(rng)
                )
            }
            25..45 => format!("UPDATE item SET state = '{state}', n = n + 1 {some}"),
            45..52 => format!("UPDATE item SET owner = {owner}, note = {} {some}", text(rng)),
            52..54 => format!("UPDATE item SET id = nextval('item_id'), price = NULL {some}"),
            54..60 => format!("DELETE FROM item {some}"),
            60..70 => format!(
                "INSERT INTO part VALUES ({a}, 'b{b}', {v}) ON CONFLICT (a, b) DO UPDATE SET v = excluded.v"
            ),
            70..74 => format!("UPDATE part SET a = a + 40 WHERE a = {a} AND b = 'b{b}'"),
            74..77 => format!("UPDATE part SET a = a - 40 WHERE a >= 40 AND b = 'b{b}'"),
            77..80 => format!("DELETE FROM part WHERE v > {}", 10 + v.abs()),
            80..81 => "TRUNCATE part".into(),
            81..91 => {
                self.n += 1;
                let worker = self.number;
                let n = self.n;
                format!(
                    "INSERT INTO entry VALUES ({worker}, {n}, 'tag {v}') ON CONFLICT (worker, n) DO UPDATE SET tag = 'again';
                     UPDATE entry SET tag = tag || '!' WHERE worker = {worker} AND n = {};
                     UPDATE entry SET n = -n WHERE worker = {worker} AND n = {}",
                    n / 2,
                    n.saturating_sub(7)
                )
            }
            91..93 => format!("INSERT INTO unpublished (note) SELECT {}", text(rng)),
            _ => {
                let from = rng.u32(1..9);
                let to = rng.u32(1..9);
                format!(
                    "UPDATE account SET balance = balance - {owner} WHERE id = {from};
                     UPDATE account SET balance = balance + {owner} WHERE id = {to}"
                )
            }
        }
    }

    /// Thousands of rows, which fill several frames, more than one piece, and tables at once.
    fn big(&mut self) -> String {
        let rng = &mut self.rng;
        let rows = rng.u32(2_500..6_000);
        let owner = rng.u32(1..6);
        let keep = rows / 10;
        format!(
            "BEGIN;
             INSERT INTO item SELECT nextval('item_id'), 1 + (g + {owner}) % 5, 'open', g, g / 7.0, now(), repeat('n', 60)
             FROM generate_series(1, {rows}) g;
             SAVEPOINT s;
             UPDATE item SET note = 'ABORTED' WHERE owner = {owner};
             ROLLBACK TO s;
             INSERT INTO part SELECT 1000 + g, 'big', g FROM generate_series(1, 500) g ON CONFLICT DO NOTHING;
             DELETE FROM item WHERE owner <> {owner} AND id < currval('item_id') - {keep};
             COMMIT"
        )
    }
}

/// An expression: nothing, a short text, or one so long that it is stored out of line.
pub fn text(rng: &mut Rng) -> String {
    match rng.u32(0..10) {
        0 => "NULL::text".into(),
        1 | 2 => {
            let salt = rng.u32(..);
            format!("(SELECT string_agg(md5('{salt}' || g::text), '') FROM generate_series(1, 150) g)")
        }
        _ => format!("'note {}'", rng.u32(..)),
    }
}
