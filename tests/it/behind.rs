//! Connections that are behind: their subscriptions, and how they rejoin.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::slow::TABLE;
use crate::support::{
    At, Client, DEADLINE, Database, Follower, Goal, Incoming, Setup, View, eventually, views,
};

#[test]
fn a_client_that_comes_back_to_the_head_hears_that_it_is_there() {
    let settings = ["autovacuum = off", "max_wal_size = 1GB"];
    let database = Database::on_its_own_server(TABLE, &settings);
    // From time to time it writes something that would let everybody hear of progress.
    let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'";
    let background_writer = Pid::from_raw(database.value(pid).parse().unwrap()).unwrap();
    let setup = Setup::new(&database).flag("--send-buffer-bytes", "1KiB");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "some", "table": "t", "where": "id <= 20000"}));
    kill_process(background_writer, Signal::STOP).unwrap();
    // The last rows are none of its own.
    database.sql("INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g");
    database.sql("INSERT INTO t VALUES (20001, '')");
    let written = database.written();
    eventually("it fell behind", || {
        (walcast.metric("fell_behind_total") >= 1.0).then_some(())
    });
    loop {
        match client.next_by(Instant::now() + DEADLINE) {
            Incoming::Message(message) if At::read(&message["position"]) >= At::after(written) => break,
            Incoming::Message(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        database.written(),
        written,
        "it took more changes to hear of these"
    );
    kill_process(background_writer, Signal::CONT).unwrap();
}

#[test]
fn a_client_that_rejoins_inside_a_transaction_hears_of_its_end() {
    let database = Database::new(TABLE);
    database.sql("CREATE TABLE u (id bigint PRIMARY KEY, note text); ALTER PUBLICATION pub ADD TABLE u");
    // Whatever comes while a message is on its way is too much: it falls behind and rejoins all the time.
    let setup = Setup::new(&database).flag("--send-buffer-bytes", "1KiB");
    let walcast = setup.start();
    let goal = Goal::default();
    let follow = |number: u32| {
        let query = json!({"id": format!("t{number}"), "table": "t", "columns": ["id"]});
        Follower::new(setup.address(), views(&[query])).follow(&goal, &Default::default())
    };
    let followers: Vec<_> = (0..6).map(follow).collect();
    eventually("all are live", || {
        (walcast.metric("subscriptions") == 6.0).then_some(())
    });
    let writer = Writer::start(&database, 1);
    let mut round = 0;
    while round < 6 || walcast.metric("fell_behind_total") < 15.0 {
        round += 1;
        let first = round * 1_000_000;
        // Its end is about another table.
        database.sql(&format!(
            "BEGIN; INSERT INTO t SELECT {first} + g, 'x' FROM generate_series(1, 3000) g;
             INSERT INTO u SELECT {first} + g, repeat('x', 300) FROM generate_series(1, 20000) g; COMMIT"
        ));
        // Whoever has not come so far cannot fall behind again: more is not written until somebody has.
        let fallen = walcast.metric("fell_behind_total");
        eventually("somebody has come back", || {
            let is_back = walcast.metric("catching_up") < 6.0 || walcast.metric("fell_behind_total") > fallen;
            is_back.then_some(())
        });
    }
    drop(writer);
    goal.set(At::after(database.written())).unwrap();
    for follower in followers {
        follower.join().unwrap().views[0].assert_is_result(&database);
    }
}

#[test]
fn subscriptions_that_come_while_their_connection_is_behind_cost_the_others_nothing() {
    let database = Database::new(TABLE);
    database.sql("CREATE TABLE u (note text); ALTER PUBLICATION pub ADD TABLE u");
    // Each transaction is more than waits for a client: connections fall behind all the time.
    let setup = Setup::new(&database)
        .flag("--send-buffer-bytes", "500B")
        .flag("--max-frame-bytes", "300B");
    let walcast = setup.start();
    // Something to read through, so that catching up takes its time.
    database.sql("INSERT INTO u SELECT repeat('x', 100) FROM generate_series(1, 30000)");
    // Slowly: what comes from the start reads all that there is by then, and on a busy machine would never be through.
    let writer = Writer::resting(&database, 5, Duration::from_millis(50));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let address = setup.address();
            std::thread::spawn(move || add_again_and_again(Follower::new(address, Vec::new())))
        })
        .collect();
    let followers: Vec<Follower> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    drop(writer);
    let goal = At::after(database.written());
    for mut follower in followers {
        follower.until(|follower| follower.has_come_to(goal));
        let whole = &follower.views[0];
        whole.assert_is_result(&database);
        for view in &follower.views[1..] {
            view.assert_is_tail_of(whole);
        }
    }
    assert!(walcast.metric("fell_behind_total") > 0.0);
}

/// Adds views from the start and from now on, one by one, each when those before it are live.
fn add_again_and_again(mut follower: Follower) -> Follower {
    for number in 0..10 {
        let from = if number % 3 == 2 {
            json!(null)
        } else {
            json!("earliest")
        };
        let complete = from == "earliest";
        let query = json!({"id": format!("t{number}"), "table": "t"});
        follower.add(View::new(query, from, complete));
        let came = follower.views[0].came.len();
        follower.until(|follower| {
            follower.views.iter().all(|view| view.live) && follower.views[0].came.len() > came + 25
        });
    }
    follower
}

#[test]
fn a_client_that_cannot_keep_up_can_give_something_up() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    client.subscribe_live(json!({"id": "last", "table": "t", "where": "id = 150000"}));
    database.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 100000) g");
    database.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(100001, 150000) g");
    eventually("it fell behind", || {
        (walcast.metric("fell_behind_total") > 0.0).then_some(())
    });
    client.send(&json!({"type": "unsubscribe", "id": "all"}));
    let mut rows = 0;
    loop {
        let message = client.next();
        if message["type"] == "unsubscribed" {
            break;
        }
        rows += message["changes"].as_array().unwrap().len();
    }
    assert!(rows < 100_000, "{rows} rows came before");
    // The other one goes on, and nothing of the first one comes any more.
    loop {
        let tx = client.tx();
        let changes = tx["changes"].as_array().unwrap();
        assert!(changes.iter().all(|change| change["id"] == "last"), "{tx}");
        if !changes.is_empty() {
            break;
        }
    }
}

#[test]
fn what_comes_to_a_connection_that_is_behind_gets_on_beside_it() {
    let database = Database::new(TABLE);
    database.sql("CREATE TABLE u (id bigint PRIMARY KEY); ALTER PUBLICATION pub ADD TABLE u");
    let walcast = Setup::new(&database).start();
    database.sql("INSERT INTO u SELECT g FROM generate_series(1, 3000) g");
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    database.sql("INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 40000) g");
    eventually("it fell behind", || {
        (walcast.metric("fell_behind_total") > 0.0).then_some(())
    });
    client.send(&json!({"type": "subscribe", "id": "past", "table": "u", "from": "earliest"}));
    client.send(&json!({"type": "subscribe", "id": "rows", "table": "u", "snapshot": true}));
    client.send(&json!({"type": "subscribe", "id": "brief", "table": "u"}));
    client.send(&json!({"type": "unsubscribe", "id": "brief"}));
    client.send(&json!({"type": "subscribe", "id": "now", "table": "u"}));
    let mut all = 0;
    let mut past = 0;
    let mut rows = 0;
    let mut live = Vec::new();
    let mut at = None;
    let mut begun = 0;
    let mut ended = 0;
    while live.len() < 3 {
        let message = client.next_of_any_type();
        let changes = message["changes"].as_array().map_or(0, Vec::len);
        let position = message.get("position").map(At::read);
        match (message["type"].as_str().unwrap(), message["id"].as_str()) {
            ("tx", None) => all += changes,
            ("tx", Some("past")) => past += changes,
            ("snapshot", Some("rows")) => rows += message["rows"].as_array().unwrap().len(),
            ("live", Some(id)) => live.push(id.to_owned()),
            ("subscribed", Some("brief")) => {}
            ("subscribed", _) => begun += 1,
            ("unsubscribed", Some("brief")) => ended += 1,
            ("progress", None) => {}
            _ => panic!("{message}"),
        }
        if begun < 3 || ended < 1 || past < 3000 || rows < 3000 {
            assert!(
                all < 40_000,
                "{past} and {rows} of 3000 came before the connection was there"
            );
        }
        // What is live stands where the connection does.
        if message["type"] == "live" || message.get("id").is_none() {
            assert!(position >= at, "{message} at {at:?}");
            at = position;
        }
    }
    // They are in force once the connection is.
    assert_eq!((all, past, rows), (40_000, 3000, 3000));
    database.sql("INSERT INTO u VALUES (0)");
    assert_eq!(client.changes().len(), 3);
}

#[test]
fn subscriptions_that_come_and_go_under_load_get_nothing_after_their_end() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let writer = Writer::start(&database, 1);
    let mut client: Client = walcast.connect();
    client.subscribe_live(json!({"id": "stays", "table": "t"}));
    for round in 0..200 {
        // In one breath: the end often comes while the start is under way.
        let id = format!("s{round}");
        client.send(&json!({"type": "subscribe", "id": id, "table": "t"}));
        client.send(&json!({"type": "unsubscribe", "id": id}));
        loop {
            let message = client.next();
            if message["type"] == "tx" {
                for change in message["changes"].as_array().unwrap() {
                    let about = change["id"].as_str().unwrap();
                    assert!(
                        about == "stays" || about == id,
                        "{about} was over before {id}: {message}"
                    );
                }
            }
            if message["type"] == "unsubscribed" {
                assert_eq!(message["id"], *id);
                break;
            }
        }
    }
    drop(writer);
}

#[test]
fn an_id_is_free_again_once_its_subscription_is_over_and_not_before() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database)
        .flag("--max-message-rate", "100000")
        .flag("--max-subscribe-rate", "100000")
        .start();
    let writer = Writer::start(&database, 5);
    let mut client: Client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t", "ops": ["insert"]}));
    for round in 0..50 {
        // The next query shows other columns: whatever comes tells of which one it is.
        let mut next = json!({"type": "subscribe", "id": "s", "table": "t", "ops": ["insert"]});
        if round % 2 == 0 {
            next["columns"] = json!(["id"]);
        }
        // In one breath it mostly comes too early. What is said of that ends nothing: it has no id.
        client.send(&json!({"type": "unsubscribe", "id": "s"}));
        client.send(&next);
        let mut is_over = false;
        let mut begun = false;
        while !is_over || !begun {
            let message = client.next();
            match message["type"].as_str().unwrap() {
                "error" => {
                    assert_eq!(message["code"], "duplicate_id", "{message}");
                    assert_eq!(message.get("id"), None, "{message}");
                    client.send(&next);
                }
                "unsubscribed" => is_over = true,
                "subscribed" => begun = true,
                _ => {}
            }
            assert!(is_over || !begun, "two subscriptions of one id");
        }
        let mut changes = 0;
        while changes < 3 {
            let message = client.next();
            for change in message["changes"].as_array().into_iter().flatten() {
                let is_narrow = change["row"].as_object().unwrap().len() == 1;
                assert_eq!(is_narrow, round % 2 == 0, "of the one before: {message}");
                changes += 1;
            }
        }
    }
    drop(writer);
}

/// Commits a few rows at a time, a hundred times a second, until it is dropped.
struct Writer(
    std::sync::Arc<std::sync::atomic::AtomicBool>,
    Option<std::thread::JoinHandle<()>>,
);

impl Writer {
    fn start(database: &Database, rows: u64) -> Writer {
        Writer::resting(database, rows, Duration::from_millis(10))
    }

    /// A writer that rests for so long after each commit.
    fn resting(database: &Database, rows: u64, rest: Duration) -> Writer {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopping = stop.clone();
        let mut connection = database.connect();
        let run = move || {
            let mut id = 0;
            while !stopping.load(std::sync::atomic::Ordering::Relaxed) {
                let values = format!("SELECT g, 'x' FROM generate_series({}, {}) g", id + 1, id + rows);
                connection.query(&format!("INSERT INTO t {values}")).unwrap();
                id += rows;
                // So much that a connection falls behind, so little that it comes back.
                std::thread::sleep(rest);
            }
        };
        Writer(stop, Some(std::thread::spawn(run)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            drop(thread.join());
        }
    }
}
