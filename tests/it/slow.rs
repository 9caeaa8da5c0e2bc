//! A client that reads slowly, or not at all, costs only itself.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    At, Client, Database, Proxy, Setup, Workload, eventually, eventually_equal, queries, views,
};
use crate::support::{Audience, Follower, Pace, SCHEMA};

const ROWS: u64 = 200_000;
pub(super) const TABLE: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

#[test]
fn a_client_is_sent_as_much_a_second_as_it_may_be_and_loses_nothing() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database)
        .flag("--max-send-rate", "64KiB")
        .flag("--send-buffer-bytes", "8KiB")
        .start();
    let mut clients = [walcast.connect(), walcast.connect()];
    for client in &mut clients {
        client.subscribe_live(json!({"id": "all", "table": "t"}));
    }
    let limited = "limits_reached_total{limit=\"send_rate\"}";
    assert_eq!(walcast.metric(limited), 0.0);
    // Small rows by the hundred, and one that goes out in many pieces.
    database.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g");
    database.sql("INSERT INTO t VALUES (1001, repeat('y', 100000))");
    for client in &mut clients {
        let mut next = 1;
        while next <= 1001 {
            let tx = client.tx();
            for change in tx["changes"].as_array().unwrap() {
                assert_eq!(change["row"]["id"], next, "{change}");
                next += 1;
            }
        }
    }
    assert!(walcast.metric(limited) >= 2.0);
}

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
