//! A client that reads slowly, or not at all, costs only itself.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{
    At, Client, DEADLINE, Database, Incoming, Proxy, Setup, Workload, eventually, eventually_equal, queries,
    views,
};
use crate::support::{Audience, Follower, Goal, Pace, SCHEMA, View};

const ROWS: u64 = 200_000;
const TABLE: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

#[test]
fn a_client_that_stops_reading_costs_bounded_memory_and_loses_nothing() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database)
        .flag("--stall-timeout", "10min")
        .flag("--pong-timeout", "10min");
    let walcast = setup.start();
    let mut stopped = walcast.connect();
    stopped.subscribe_live(json!({"id": "all", "table": "t"}));
    let mut other = walcast.connect();
    other.subscribe_live(json!({"id": "some", "table": "t", "where": "id > 199990"}));
    let confirmed = database.confirmed(&setup.slot);
    let before = walcast.resident_bytes();
    // Some in one large transaction, some in many.
    database.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 100000) g");
    let mut connection = database.connect();
    for start in (100_000..ROWS).step_by(500) {
        let rows = format!(
            "SELECT g, repeat('x', 100) FROM generate_series({}, {}) g",
            start + 1,
            start + 500
        );
        connection.query(&format!("INSERT INTO t {rows}")).unwrap();
    }
    let written = database.written();
    assert_eq!(other.changes().len(), 10);
    eventually("the slot is confirmed", || {
        (database.confirmed(&setup.slot) >= written).then_some(())
    });
    assert!(database.confirmed(&setup.slot) > confirmed);
    let grown = walcast.resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "grew by {grown} bytes");
    assert!(walcast.metric("fell_behind_total") >= 1.0);
    // It reads on, and gets every row once, in order.
    let mut next = 1;
    let mut position = None;
    while next <= ROWS {
        let tx = stopped.expect("tx");
        let at = At::read(&tx["position"]);
        assert!(Some(at) > position, "{at} after {position:?}");
        position = Some(at);
        for change in tx["changes"].as_array().unwrap() {
            assert_eq!(
                (&change["op"], &change["row"]["id"]),
                (&json!("insert"), &json!(next))
            );
            next += 1;
        }
    }
    // It is live again.
    database.sql("DELETE FROM t WHERE id = 7");
    assert_eq!(
        stopped.change(),
        json!({"id": "all", "seq": 0, "op": "delete", "key": {"id": 7}})
    );
}

#[test]
fn clients_on_a_slow_or_stalling_line_get_every_change_in_order() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database)
        .flag("--send-buffer-bytes", "32KiB")
        .flag("--max-frame-bytes", "4KiB");
    let walcast = setup.start();
    let proxy = Proxy::to_walcast(setup.address());
    let address = std::sync::Arc::new(std::sync::Mutex::new(proxy.address()));
    let mut audience = Audience::new(setup.address());
    // Each falls behind with several subscriptions, and rejoins, again and again.
    for some in queries().chunks(4) {
        audience.join(Follower::new(address.clone(), views(some)));
    }
    audience.everybody_has_joined();
    let pace = Pace {
        workers: 2,
        rest: Duration::from_millis(30),
        big: 15,
    };
    let workload = Workload::start(&database, pace);
    let mut round = 0;
    while round < 12 || walcast.metric("fell_behind_total") < 3.0 {
        match round % 3 {
            0 => proxy.stall(true),
            1 => proxy.throttle(300_000),
            _ => proxy.throttle(0),
        }
        workload.goes_on(20);
        proxy.stall(false);
        round += 1;
    }
    workload.finish();
    audience.judge(&database);
    eventually_equal("catching_up", 0.0, || walcast.metric("catching_up"));
}

#[test]
fn a_client_that_takes_nothing_for_too_long_is_closed() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database).flag("--stall-timeout", "1s");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    database.sql("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 30000) g");
    eventually("it is given up", || {
        (walcast.metric(r#"connections_closed_total{code="4001"}"#) > 0.0).then_some(())
    });
    eventually_equal("it is gone", 0.0, || walcast.metric("connections"));
}

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
    let writer = Writer::start(&database, 5);
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
    let walcast = Setup::new(&database).start();
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
                std::thread::sleep(Duration::from_millis(10));
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

#[test]
fn clients_that_stall_again_and_again_miss_nothing() {
    const CLIENTS: usize = 6;
    let database = Database::new(TABLE);
    let setup = Setup::new(&database).flag("--progress-interval", "10ms");
    let walcast = setup.start();
    let proxy = Proxy::to_walcast(setup.address());
    let connect = || {
        let mut client = Client::connect(proxy.address());
        client.subscribe_live(json!({"id": "s", "table": "t"}));
        (client, 0)
    };
    let mut clients: Vec<(Client, u64)> = (0..CLIENTS).map(|_| connect()).collect();
    let mut connection = database.connect();
    let mut written = 0;
    for _ in 0..4 {
        proxy.stall(true);
        // In small transactions, so that what waits for a client is many frames, and comes while it is looked at.
        while walcast.metric("stalled") < CLIENTS as f64 {
            for _ in 0..20 {
                let from = written + 1;
                let to = written + 1;
                let rows = format!("SELECT g, repeat('x', 500) FROM generate_series({from}, {to}) g");
                connection.query(&format!("INSERT INTO t {rows}")).unwrap();
                written = to;
            }
        }
        proxy.stall(false);
        for (client, last) in &mut clients {
            while *last < written {
                for change in client.expect("tx")["changes"].as_array().unwrap() {
                    *last += 1;
                    assert_eq!(change["row"]["id"], json!(*last));
                }
            }
        }
    }
}

#[test]
fn a_client_that_takes_nothing_costs_64_kib_at_most() {
    const CLIENTS: usize = 400;
    let database = Database::new(TABLE);
    let setup = Setup::new(&database).flag("--stall-timeout", "10min");
    let walcast = setup.start();
    let insert = |from: usize| {
        database.sql(&format!(
            "INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series({}, {}) g",
            from + 1,
            from + 20_000
        ));
    };
    insert(0);
    // Live, behind, and with the rows that are there.
    let stalled = |count: usize| -> Vec<Client> {
        let subscribe = |number: usize| {
            let mut client = walcast.connect();
            let mut subscribe = json!({"id": "s", "table": "t"});
            match number % 3 {
                0 => {}
                1 => subscribe["from"] = json!("earliest"),
                _ => subscribe["snapshot"] = json!(true),
            }
            client.subscribe(subscribe);
            client
        };
        (0..count).map(subscribe).collect()
    };
    // What all of them share, and what the allocator keeps, is there once some have stalled.
    let some = stalled(CLIENTS / 10);
    insert(20_000);
    eventually_equal("some have stalled", some.len() as f64, || {
        walcast.metric("stalled")
    });
    let before = walcast.resident_bytes();
    let _all = stalled(CLIENTS);
    insert(40_000);
    eventually_equal("all have stalled", (some.len() + CLIENTS) as f64, || {
        walcast.metric("stalled")
    });
    let each = walcast.resident_bytes().saturating_sub(before) / CLIENTS as u64;
    assert!(each <= 64 << 10, "{each} bytes for each");
}

#[test]
fn what_clients_with_many_subscriptions_do_not_read_costs_bounded_memory() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database).flag("--stall-timeout", "10min");
    let walcast = setup.start();
    let mut clients: Vec<Client> = (0..3).map(|_| walcast.connect()).collect();
    for client in &mut clients {
        for number in 0..100 {
            client.subscribe_live(json!({"id": format!("s{number}"), "table": "t"}));
        }
    }
    let before = walcast.resident_bytes();
    // Four hundred megabytes of messages for each of them.
    database.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 60000) g");
    eventually_equal("all are behind", 3.0, || walcast.metric("fell_behind_total"));
    let written = database.written();
    let mut other = walcast.connect();
    other.subscribe_live(json!({"id": "last", "table": "t", "where": "id > 60000"}));
    database.sql("INSERT INTO t VALUES (60001, '')");
    assert!(At::read(&other.tx()["position"]) > At::after(written));
    let grown = walcast.resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "grew by {grown} bytes");
    // One of them reads on, and gets all of it in order.
    let mut last = (0, String::new());
    let mut changes = 0;
    while changes < 60_000 * 100 / 20 {
        for change in clients[0].expect("tx")["changes"].as_array().unwrap() {
            let this = (
                change["row"]["id"].as_u64().unwrap(),
                change["id"].as_str().unwrap().to_owned(),
            );
            assert!(this.0 >= last.0, "{this:?} after {last:?}");
            last = this;
            changes += 1;
        }
    }
}
