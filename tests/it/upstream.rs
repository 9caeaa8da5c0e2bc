//! Confirmations to Postgres: no more than is safe, and never too little for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use walcast::lsn::Lsn;

use crate::support::{At, Database, Direction, Pace, Proxy, SCHEMA, Setup, Workload, eventually};

/// Messages that were overheard between walcast and Postgres.
#[derive(Default)]
struct Overheard {
    /// Bytes of each connection and direction that are no whole message yet.
    pending: HashMap<(usize, bool), Vec<u8>>,
    /// The newest position that the server sent, on any connection.
    sent: u64,
    /// The newest position that walcast called safe, and how often it spoke.
    flushed: u64,
    updates: usize,
    wrong: Vec<String>,
}

impl Overheard {
    fn hear(&mut self, connection: usize, direction: Direction, bytes: &[u8]) {
        let up = direction == Direction::Up;
        let mut pending = self.pending.remove(&(connection, up)).unwrap_or_default();
        pending.extend_from_slice(bytes);
        // The chapters "Message Formats" and "Streaming Replication Protocol". What precedes a session has no type:
        // a request begins with its length, of which the first byte is zero, and is answered by one letter.
        loop {
            match pending.first() {
                Some(0) if up && pending.len() >= 8 => {
                    let length = number(&pending[..4]) as usize;
                    if pending.len() < length {
                        break;
                    }
                    pending.drain(..length);
                }
                Some(b'N') if !up && pending.len() == 1 => pending.clear(),
                Some(_) if pending.len() >= 5 => {
                    let length = number(&pending[1..5]) as usize + 1;
                    if pending.len() < length {
                        break;
                    }
                    let message: Vec<u8> = pending.drain(..length).collect();
                    if message[0] == b'd' {
                        self.copy_data(up, &message[5..]);
                    }
                }
                _ => break,
            }
        }
        self.pending.insert((connection, up), pending);
    }

    fn copy_data(&mut self, up: bool, data: &[u8]) {
        let field = |index: usize| number(&data[1 + 8 * index..9 + 8 * index]);
        match (up, data[0]) {
            (true, b'r') => {
                let written = field(0);
                let flushed = field(1);
                self.updates += 1;
                if self.updates == 1 {
                    // The place at which the slot was made.
                    self.sent = self.sent.max(flushed);
                }
                if flushed < self.flushed {
                    self.wrong
                        .push(format!("{} after {}", Lsn(flushed), Lsn(self.flushed)));
                }
                if flushed > self.sent.max(self.flushed) {
                    self.wrong
                        .push(format!("{} of {} received", Lsn(flushed), Lsn(self.sent)));
                }
                if written < flushed {
                    self.wrong
                        .push(format!("{} written, {} flushed", Lsn(written), Lsn(flushed)));
                }
                self.flushed = self.flushed.max(flushed);
            }
            // A position that the server sends is the end of what it has sent.
            (false, b'w') => self.sent = self.sent.max(field(0)).max(field(1)),
            (false, b'k') => self.sent = self.sent.max(field(0)),
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[test]
fn postgres_is_told_only_what_a_journal_that_is_killed_still_has() {
    let database = Database::new(SCHEMA);
    let overheard = Arc::new(Mutex::new(Overheard::default()));
    let proxy = Proxy::listening_in(&database, {
        let overheard = Arc::clone(&overheard);
        Box::new(move |connection, direction, bytes| {
            overheard.lock().unwrap().hear(connection, direction, bytes);
        })
    });
    let setup = Setup::new(&database).by(proxy.url(&database));
    let mut walcast = setup.start();
    let pace = Pace {
        workers: 3,
        rest: Duration::from_millis(20),
        big: 10,
    };
    let workload = Workload::start(&database, pace);
    let mut rng = Rng::with_seed(workload.seed());
    let mut epoch = walcast.connect().hello["epoch"].clone();
    for _ in 0..6 {
        let before = overheard.lock().unwrap().updates;
        eventually("the server is told something", || {
            (overheard.lock().unwrap().updates > before).then_some(())
        });
        workload.goes_on(rng.u64(10..50));
        walcast.kill();
        // Nothing speaks for the dead one any more.
        proxy.cut();
        let flushed = overheard.lock().unwrap().flushed;
        walcast = setup.start();
        let hello = walcast.connect().hello;
        let head = At::read(&hello["position"]);
        assert!(
            head.end >= flushed,
            "{head} is left, {} was promised",
            Lsn(flushed)
        );
        assert_eq!(hello["epoch"], epoch);
        epoch = hello["epoch"].clone();
    }
    workload.finish();
    let written = database.written();
    eventually("all of it is confirmed", || {
        (database.confirmed(&setup.slot) >= written).then_some(())
    });
    let overheard = overheard.lock().unwrap();
    assert!(overheard.wrong.is_empty(), "{:?}", overheard.wrong);
}

#[test]
fn a_slot_is_confirmed_also_where_only_other_tables_and_databases_are_written() {
    let database = Database::new(SCHEMA);
    let other = Database::new("CREATE TABLE x (t text)");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "item"}));
    for round in 0..4 {
        let noise = "SELECT repeat('x', 1000) FROM generate_series(1, 2000)";
        match round % 2 {
            0 => database.sql(&format!("INSERT INTO unpublished (note) {noise}")),
            _ => other.sql(&format!("INSERT INTO x {noise}")),
        };
        let written = database.written();
        eventually("the slot is confirmed", || {
            (database.confirmed(&setup.slot) >= written).then_some(())
        });
        // And the client's place never grows old.
        eventually("the client hears of it", || {
            let until = std::time::Instant::now() + Duration::from_secs(1);
            let crate::support::Incoming::Message(message) = client.next_by(until) else {
                return None;
            };
            assert_eq!(message["type"], "progress", "{message}");
            (At::read(&message["position"]) >= At::after(written)).then_some(())
        });
    }
}
