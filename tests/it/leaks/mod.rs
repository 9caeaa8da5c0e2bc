//! A search for what clients must not see, over random policies, row level security, tokens and workloads.
//!
//! Every text that is ever written is a marker of its own, and a trigger keeps every version of every row. Each byte
//! that a client received is searched for markers, and Postgres says which of them the policies of that client's time
//! admit by its claims. Policies change, in the file and in the database; walcast is killed and stopped, and clients go on
//! where they were. What clients hold at the end is what Postgres selects under the same policies: where row level
//! security decides, in a session with the client's role and claims.
//!
//! `WALCAST_LEAKS=3600` makes it an hour, and `WALCAST_SEED` another run; both are threads at random, so a seed does not
//! repeat a failure exactly.

mod client;
mod fold;
mod oracle;
mod policies;
mod secured;
mod writer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::guarded::{Guarded, client as greeted};
use crate::support::{DEADLINE, Setup, Walcast, eventually};
use policies::PolicySet;

const SCHEMA: &str = "
    CREATE ROLE role_0; CREATE ROLE role_1;
    CREATE TABLE doc (id int PRIMARY KEY, tenant int, level int, owner text, title text, body text, sealed bool);
    ALTER TABLE doc REPLICA IDENTITY FULL;
    CREATE TABLE room (tenant int, id int, topic text, notes text, PRIMARY KEY (tenant, id));
    CREATE TYPE doc_then AS (id int, tenant int, level int, owner text, title text, body text, sealed bool);
    CREATE TYPE room_then AS (tenant int, id int, topic text, notes text);
    CREATE TABLE vault (id int PRIMARY KEY, content text);
    CREATE TABLE beacon (id int PRIMARY KEY);
    GRANT SELECT ON beacon TO role_0;
    CREATE TABLE versions (versions_marker text, versions_of text, versions_column text, versions_row jsonb);
    CREATE INDEX ON versions (versions_marker);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE short jsonb := (SELECT jsonb_object_agg(key, CASE jsonb_typeof(value)
            WHEN 'string' THEN to_jsonb(left(value #>> '{}', 20)) ELSE value END) FROM jsonb_each(to_jsonb(NEW)));
        BEGIN
            INSERT INTO versions SELECT substring(value FROM '^M[0-9]+Z'), TG_TABLE_NAME, key, short
                FROM jsonb_each_text(short) WHERE value ~ '^M[0-9]+Z';
            RETURN NULL;
        END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON room FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON vault FOR EACH ROW EXECUTE FUNCTION note();
    CREATE PUBLICATION pub FOR TABLE doc, room, vault, beacon;
";

/// The tables that policies may show. The vault is not among them.
const TABLES: [&str; 2] = ["doc", "room"];
/// The roles of callers, which the database has, too.
const ROLES: usize = 2;
const CLIENTS: usize = 8;
const WRITERS: usize = 2;

fn role_name(role: usize) -> String {
    format!("role_{role}")
}

/// The role in some claims.
fn role_of(claims: &Value) -> usize {
    let name = claims["role"].as_str().unwrap();
    name.trim_start_matches("role_").parse().unwrap()
}

/// The state that all threads share.
struct Ground {
    guarded: Guarded,
    /// The place where clients find the server, also after a restart.
    address: Arc<Mutex<SocketAddr>>,
    /// All policies that ever held, in order.
    sets: Mutex<Vec<PolicySet>>,
    /// The number of the last ones that the server has certainly taken.
    in_force: AtomicUsize,
    /// Clients make their last subscriptions, and keep them.
    is_last: AtomicBool,
    /// Nothing is written any more.
    is_over: AtomicBool,
    stop_writing: AtomicBool,
    /// The time by which everything has to be done, whatever happens.
    deadline: Instant,
}

impl Ground {
    fn newest(&self) -> usize {
        self.sets.lock().unwrap().len() - 1
    }

    /// Fails if the time is over.
    fn goes_on(&self) {
        assert!(Instant::now() < self.deadline, "it takes too long");
    }
}

/// The deeds of clients, in numbers.
#[derive(Debug, Default)]
struct Totals {
    connections: usize,
    /// Connections that went on where another one was cut off.
    resumed: usize,
    markers: usize,
    /// The results that were compared with Postgres'.
    compared: usize,
    /// Those of them that row level security decided, if only in part.
    compared_by_database: usize,
    /// The rows in them.
    rows: usize,
    /// Questions by which a client finds out what it may be judged by.
    asked: u64,
}

impl Totals {
    fn and(self, other: Totals) -> Totals {
        Totals {
            connections: self.connections + other.connections,
            resumed: self.resumed + other.resumed,
            markers: self.markers + other.markers,
            compared: self.compared + other.compared,
            compared_by_database: self.compared_by_database + other.compared_by_database,
            rows: self.rows + other.rows,
            asked: self.asked + other.asked,
        }
    }
}

/// The server, and those who change what it may show.
struct Server<'g> {
    ground: &'g Ground,
    setup: Setup,
    /// `None` while it is away.
    walcast: Option<Walcast>,
    kills: usize,
    stops: usize,
}

impl Server<'_> {
    fn starts(&mut self) {
        let walcast = self.setup.start();
        // From the first question about row level security on, it looks for changes.
        let token = self.ground.guarded.token("beacon", &role_name(0));
        greeted(&walcast, &token).subscribe(json!({"id": "beacon", "table": "beacon"}));
        self.walcast = Some(walcast);
    }

    fn restarts(&mut self, is_killed: bool) {
        let walcast = self.walcast.take().unwrap();
        if is_killed {
            walcast.kill();
            self.kills += 1;
        } else {
            assert!(walcast.stop().success());
            self.stops += 1;
        }
        self.starts();
    }

    /// Makes these the policies, those of the database before those of the file, and waits until the server has taken
    /// them.
    fn takes(&self, set: PolicySet) {
        let before = self.ground.sets.lock().unwrap().last().unwrap().clone();
        if before.secured != set.secured {
            let altered = PolicySet {
                secured: set.secured.clone(),
                ..before.clone()
            };
            let words = "policies or privileges in the database have changed";
            self.says(words, altered, |altered| {
                let sql = altered.secured.sql();
                // It may be in a writer's way.
                eventually("the policies of the database are altered", || {
                    let altered = self.ground.guarded.database.connect().query(&sql);
                    altered.is_ok().then_some(())
                });
            });
        }
        if before.configured != set.configured {
            self.says("the policies have changed", set, |set| {
                self.ground.guarded.write("", &set.toml());
                self.walcast.as_ref().unwrap().hang_up();
            });
        }
    }

    /// Makes these the policies by doing something, until the server says that it has taken them.
    fn says(&self, words: &str, set: PolicySet, done: impl FnOnce(&PolicySet)) {
        let walcast = self.walcast.as_ref().unwrap();
        let said = || walcast.log().matches(words).count();
        let count = said();
        // From here on they may hold.
        self.ground.sets.lock().unwrap().push(set.clone());
        done(&set);
        eventually(words, || (said() > count).then_some(()));
        self.ground.in_force.store(self.ground.newest(), Ordering::SeqCst);
    }
}

#[test]
fn no_client_ever_receives_what_its_policies_hide() {
    let seconds = std::env::var("WALCAST_LEAKS").map_or(12, |seconds| seconds.parse().unwrap());
    let seed = std::env::var("WALCAST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("WALCAST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let guarded = Guarded::on_its_own_server(SCHEMA);
    let first = PolicySet::random(&mut rng);
    guarded.database.sql(&first.secured.sql());
    let setup = guarded
        .setup("", &first.toml())
        .flag("--log", "info")
        .flag("--max-frame-bytes", "2KiB")
        .flag("--send-buffer-bytes", "64KiB");
    let ground = Arc::new(Ground {
        guarded,
        address: setup.address(),
        sets: Mutex::new(vec![first]),
        in_force: AtomicUsize::new(0),
        is_last: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        stop_writing: AtomicBool::new(false),
        deadline: Instant::now() + Duration::from_secs(seconds) + 4 * DEADLINE,
    });
    let mut server = Server {
        ground: &ground,
        setup,
        walcast: None,
        kills: 0,
        stops: 0,
    };
    server.starts();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (ground, rng) = (Arc::clone(&ground), rng.fork());
            thread::spawn(move || writer::write(&ground, number, rng))
        })
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (ground, rng) = (Arc::clone(&ground), rng.fork());
            thread::spawn(move || client::run(&ground, number, rng))
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(rng.u64(200..1_500)));
        // One that failed has said why.
        if clients.iter().any(thread::JoinHandle::is_finished) {
            break;
        }
        let set = ground.sets.lock().unwrap().last().unwrap().clone();
        match rng.u32(0..10) {
            0 => server.restarts(true),
            1 => server.restarts(false),
            2..6 => server.takes(set.with_others_of_database(&mut rng)),
            6 => server.takes(PolicySet::random(&mut rng)),
            _ => server.takes(set.with_others(&mut rng)),
        }
    }
    // The last of them tell of everything, so that what clients hold can be compared.
    server.takes(PolicySet::random(&mut rng).whole());
    ground.is_last.store(true, Ordering::SeqCst);
    // The last subscriptions begin among writes, and outlive the server.
    thread::sleep(Duration::from_millis(1_500));
    server.restarts(true);
    thread::sleep(Duration::from_millis(500));
    ground.stop_writing.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.join().unwrap();
    }
    ground.is_over.store(true, Ordering::SeqCst);
    let totals = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .fold(Totals::default(), Totals::and);
    let versions = ground
        .guarded
        .database
        .value("SELECT count(*)::text FROM versions");
    eprintln!(
        "{totals:?} under {} sets of policies, {} kills and {} stops; {versions} markers in versions of rows",
        ground.newest() + 1,
        server.kills,
        server.stops
    );
    assert!(
        totals.markers > 100 && totals.compared > 0 && totals.resumed > 0,
        "it did not look at anything"
    );
}
