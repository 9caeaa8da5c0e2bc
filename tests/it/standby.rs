//! Two walcasts on one slot: the second waits, and takes over.

use serde_json::{Value, json};

use crate::support::{
    Audience, Client, Database, End, Pace, SCHEMA, Setup, Walcast, Workload, eventually, eventually_equal,
    queries, views,
};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

fn follow(walcast: &Walcast) -> Client {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client
}

fn insert(database: &Database, client: &mut Client, id: u32) -> Value {
    database.sql(&format!("INSERT INTO t VALUES ({id})"));
    let tx = client.expect("tx");
    assert_eq!(tx["changes"][0]["row"]["id"], id);
    tx["position"].clone()
}

/// Starts a second one, and waits until both know of each other.
pub fn start_standby(first: &Walcast, setup: &Setup) -> Walcast {
    let second = setup.start_unready();
    let reason = eventually("it stands by", || {
        second.ready().err().filter(|reason| reason.contains("standby"))
    });
    assert!(
        reason.contains(&setup.slot) && reason.contains("walcast"),
        "{reason}"
    );
    eventually_equal("the first knows of it", 1.0, || first.metric("standbys"));
    second
}

/// Waits until the slot is confirmed beyond where it was when the standby came: from there on it knows all there is to
/// know.
pub fn vouched_for(database: &Database, setup: &Setup) {
    let written = database.written();
    eventually("it is confirmed", || {
        (database.confirmed(&setup.slot) >= written).then_some(())
    });
}

/// Resumes on another walcast from where a client was.
fn resume(walcast: &Walcast, from: &Value, epoch: &Value) -> Client {
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "t", "table": "t", "from": from, "epoch": epoch}));
    client
}

#[test]
fn when_the_first_is_killed_under_load_the_second_goes_on_and_nobody_misses_anything() {
    let database = Database::new(SCHEMA);
    let one = Setup::new(&database);
    let two = Setup::new(&database);
    let first = one.start();
    let mut audience = Audience::new(one.address());
    for some in queries().chunks(4) {
        audience.join_with(views(some));
    }
    audience.everybody_has_joined();
    let pace = Pace {
        workers: 3,
        rest: std::time::Duration::from_millis(20),
        big: 3,
    };
    let workload = Workload::start(&database, pace);
    let second = start_standby(&first, &two);
    vouched_for(&database, &one);
    workload.goes_on(50);
    assert_eq!(second.metric("standby"), 1.0);
    // Clients are to be where the second can go on: a machine that is busy may hold them up for longer than the window.
    eventually("clients keep up", || {
        first.pause(true);
        let keep_up = audience.reached() >= database.confirmed(&one.slot);
        first.pause(keep_up);
        keep_up.then_some(())
    });
    first.kill();
    eventually("the second has taken over", || second.ready().ok());
    *one.address().lock().unwrap() = second.listen();
    assert_eq!(second.metric("standby"), 0.0);
    workload.goes_on(100);
    workload.finish();
    let followers = audience.judge_by_the_tables(&database);
    assert!(followers.iter().all(|follower| follower.connects > 1));
    assert_eq!(second.metric("epoch_changes_total"), 0.0);
}

#[test]
fn a_stop_hands_over_to_the_second_and_quiet_clients_go_on_there() {
    let database = Database::new(TABLE);
    let one = Setup::new(&database);
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = follow(&first);
    let epoch = client.hello["epoch"].clone();
    let second = start_standby(&first, &two);
    vouched_for(&database, &one);
    let place = insert(&database, &mut client, 1);
    // A client that comes too early is refused; the reason is the operator's.
    let refused = second.try_connect("/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(second.ready().unwrap_err().contains("standby"));
    database.sql("INSERT INTO t VALUES (2)");
    assert_eq!(client.change()["row"]["id"], 2);
    assert!(first.stop().success());
    eventually("the second has taken over", || second.ready().ok());
    // Though the first had sent and stored it, the second has it too.
    let mut client = resume(&second, &place, &epoch);
    assert_eq!(client.hello["epoch"], epoch);
    assert_eq!(client.change()["row"]["id"], 2);
    database.sql("INSERT INTO t VALUES (3)");
    assert_eq!(client.change()["row"]["id"], 3);
}

#[test]
fn what_the_second_never_had_is_refused_in_words() {
    let database = Database::new(TABLE);
    let one = Setup::new(&database).flag("--standby-window", "0s");
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = follow(&first);
    let epoch = client.hello["epoch"].clone();
    let place = insert(&database, &mut client, 1);
    let second = start_standby(&first, &two);
    insert(&database, &mut client, 2);
    vouched_for(&database, &one);
    first.kill();
    eventually("the second has taken over", || second.ready().ok());
    let mut client = second.connect();
    assert_eq!(client.hello["epoch"], epoch);
    let old = json!({"id": "t", "table": "t", "from": place, "epoch": epoch});
    let refused = client.subscribe_refused(old);
    assert_eq!(refused["code"], "resume_expired");
    assert_eq!(refused["earliest"], client.hello["earliest"]);
    let earliest = client.hello["earliest"].clone();
    client.subscribe(json!({"id": "t", "table": "t", "from": earliest, "epoch": epoch}));
    database.sql("INSERT INTO t VALUES (3)");
    assert_eq!(client.change()["row"]["id"], 3);
}

#[test]
fn one_that_comes_back_goes_on_with_its_own_journal_as_far_as_that_reaches() {
    // Now and then the server writes a little by itself, and what was confirmed meanwhile is more than the first one
    // has.
    assert!((0..5).any(|_| comes_back_with_its_own_journal()));
}

/// True if the one that came back had all that was confirmed without it.
fn comes_back_with_its_own_journal() -> bool {
    let database = Database::on_its_own_server(TABLE, &[]);
    let one = Setup::new(&database).flag("--standby-window", "1s");
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = follow(&first);
    let epoch = client.hello["epoch"].clone();
    let start = client.hello["position"].clone();
    insert(&database, &mut client, 1);
    let second = start_standby(&first, &two);
    vouched_for(&database, &one);
    first.kill();
    eventually("the second has taken over", || second.ready().ok());
    let first = start_standby(&second, &one);
    second.kill();
    eventually("the first has taken over", || first.ready().ok());
    assert_eq!(first.metric("epoch_changes_total"), 0.0);
    // Its journal is older than the second's was.
    let mut client = first.connect();
    client.send(&json!({"type": "subscribe", "id": "t", "table": "t", "from": start, "epoch": epoch}));
    let answer = client.next();
    if answer["type"] == "error" {
        assert_eq!(answer["code"], "resume_expired", "{answer}");
        return false;
    }
    assert_eq!(client.change()["row"]["id"], 1);
    true
}

#[test]
fn one_that_comes_back_goes_on_where_the_other_had_confirmed() {
    let database = Database::new(TABLE);
    let one = Setup::new(&database).flag("--standby-window", "1s");
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = follow(&first);
    let epoch = client.hello["epoch"].clone();
    insert(&database, &mut client, 1);
    let second = start_standby(&first, &two);
    vouched_for(&database, &one);
    first.kill();
    eventually("the second has taken over", || second.ready().ok());
    let mut client = follow(&second);
    let place = insert(&database, &mut client, 2);
    insert(&database, &mut client, 3);
    let first = start_standby(&second, &one);
    vouched_for(&database, &one);
    let late = insert(&database, &mut client, 4);
    second.kill();
    eventually("the first has taken over", || first.ready().ok());
    let mut refused = first.connect();
    let old = json!({"id": "t", "table": "t", "from": place, "epoch": epoch});
    assert_eq!(refused.subscribe_refused(old)["code"], "resume_expired");
    let mut client = resume(&first, &late, &epoch);
    database.sql("INSERT INTO t VALUES (5)");
    assert_eq!(client.change()["row"]["id"], 5);
    assert_eq!(first.metric("epoch_changes_total"), 0.0);
}

#[test]
fn one_that_was_cut_off_stands_by_and_sends_its_clients_away() {
    let database = Database::on_its_own_server(TABLE, &["wal_sender_timeout = 2s"]);
    let one = Setup::new(&database);
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = follow(&first);
    let epoch = client.hello["epoch"].clone();
    let second = start_standby(&first, &two);
    vouched_for(&database, &one);
    let place = insert(&database, &mut client, 1);
    first.pause(true);
    eventually("the second has taken over", || second.ready().ok());
    let mut moved = resume(&second, &place, &epoch);
    database.sql("INSERT INTO t VALUES (2)");
    assert_eq!(moved.change()["row"]["id"], 2);
    first.pause(false);
    let End::Closed(code, _) = client.end() else {
        panic!("lost")
    };
    assert_eq!(code, 1001);
    let reason = eventually("it stands by", || {
        first.ready().err().filter(|reason| reason.contains("standby"))
    });
    assert!(reason.contains(&one.slot), "{reason}");
    assert_eq!(first.try_connect("/v1/stream", &[]).err().unwrap().status, 503);
    assert!(second.ready().is_ok());
    assert_eq!(second.metric("epoch_changes_total"), 0.0);
}

#[test]
fn a_new_epoch_of_the_first_is_the_one_that_the_second_goes_on_with() {
    let database = Database::new(TABLE);
    let one = Setup::new(&database).switch("--recreate-slot");
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = follow(&first);
    let old = (insert(&database, &mut client, 1), client.hello["epoch"].clone());
    let second = start_standby(&first, &two);
    first.pause(true);
    // Nobody takes it while it is not there; then it is another one.
    second.pause(true);
    database.drop_slot(&one.slot);
    first.pause(false);
    assert_eq!(client.error()["code"], "resume_invalid");
    eventually("the first is back", || first.ready().ok());
    second.pause(false);
    eventually_equal("the first knows of it", 1.0, || first.metric("standbys"));
    let mut client = follow(&first);
    let epoch = client.hello["epoch"].clone();
    assert_ne!(epoch, old.1);
    insert(&database, &mut client, 2);
    vouched_for(&database, &one);
    let place = insert(&database, &mut client, 3);
    first.kill();
    eventually("the second has taken over", || second.ready().ok());
    let mut client = resume(&second, &place, &epoch);
    database.sql("INSERT INTO t VALUES (4)");
    assert_eq!(client.change()["row"]["id"], 4);
    let (from, epoch) = old;
    let old = json!({"id": "old", "table": "t", "from": from, "epoch": epoch});
    assert_eq!(client.subscribe_refused(old)["code"], "resume_invalid");
}

#[test]
fn columns_that_change_places_while_the_second_stands_by_are_not_gone_on_with_there() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t",
    );
    let one = Setup::new(&database);
    let two = Setup::new(&database);
    let first = one.start();
    let mut client = first.connect();
    client.subscribe_live(json!({"id": "t", "table": "t", "where": "a = 'x'"}));
    let second = start_standby(&first, &two);
    vouched_for(&database, &one);
    database.sql("INSERT INTO t VALUES (1, 'x', 'y')");
    let place = client.expect("tx")["position"].clone();
    let epoch = client.hello["epoch"].clone();
    database.sql(
        "ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME c TO b;
         ALTER TABLE t ADD noticed int",
    );
    // The second looks as often as the first, and has it from there or finds it when it has taken over.
    assert_eq!(client.expect("error")["code"], "schema_changed");
    assert!(first.stop().success());
    eventually("the second has taken over", || second.ready().ok());
    let subscribe = |predicate: &str| {
        json!({
            "id": "t", "table": "t", "where": predicate, "columns": ["id"], "from": place, "epoch": epoch
        })
    };
    let mut client = second.connect();
    assert_eq!(client.hello["epoch"], epoch);
    let refused = client.subscribe_refused(subscribe("a = 'x'"));
    assert_eq!(refused["code"], "schema_changed", "{refused}");
    client.subscribe(subscribe("id = 1"));
}
