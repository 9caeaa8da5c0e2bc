//! Clients hold their queries' results: whatever is written, whenever they come, and however often they go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Audience, Database, Follower, Pace, SCHEMA, Setup, View, Workload, queries, views, views_from,
};

const PACE: Pace = Pace {
    workers: 4,
    rest: Duration::from_millis(20),
    big: 12,
};

#[test]
fn each_view_becomes_the_result_of_its_query() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let hello = walcast.connect().hello;
    let mut audience = Audience::new(setup.address());
    // Before the writers: each on a connection of its own, and all on one.
    for query in queries() {
        audience.join_with(views(&[query]));
    }
    audience.join_with(views(&queries()));
    audience.everybody_has_joined();
    let workload = Workload::start(&database, PACE);
    workload.goes_on(100);
    // Among the writers: from the start, by its position and by its name, and from now on.
    audience.join_with(views_from(&queries(), &hello["position"]));
    audience.join_with(views_from(&queries(), &json!("earliest")));
    workload.goes_on(100);
    let late = queries()
        .into_iter()
        .map(|query| View::new(query, Value::Null, false));
    audience.join_with(late.collect());
    workload.goes_on(100);
    workload.finish();
    // After them.
    audience.join_with(views_from(&queries(), &hello["position"]));
    audience.judge(&database);
    assert!(walcast.stop().success());
}

#[test]
fn clients_that_are_cut_off_resume_and_get_every_change_exactly_once() {
    let database = Database::new(SCHEMA);
    // Small frames: a big transaction is cut in the middle of it again and again.
    let setup = Setup::new(&database).flag("--max-frame-bytes", "8KiB");
    let walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    let workload = Workload::start(&database, PACE);
    for (number, some) in queries().chunks(3).enumerate() {
        let seed = workload.seed().wrapping_add(number as u64);
        let follower = Follower::new(setup.address(), views_from(some, &json!("earliest")));
        audience.join(follower.cut_once_in(25, 30, seed));
    }
    workload.goes_on(300);
    workload.finish();
    let followers = audience.judge(&database);
    let inside: usize = followers.iter().map(|follower| follower.resumed_inside).sum();
    assert!(inside > 0, "nobody resumed inside a transaction");
    assert!(walcast.stop().success());
}

#[test]
fn a_view_goes_on_from_where_another_client_was() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let _walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    let mut first = Follower::new(setup.address(), views_from(&queries(), &json!("earliest")));
    // So slowly that the first one keeps up.
    let pace = Pace {
        workers: 2,
        rest: Duration::from_millis(100),
        big: 5,
    };
    let workload = Workload::start(&database, pace);
    for round in 0..4 {
        workload.goes_on(25);
        let goal = crate::support::At::after(database.written());
        first.until(|first| first.has_come_to(goal));
        // Some go on elsewhere, and one more beside the original, on its connection.
        let fork = |view: &View| view.fork(&format!("{}.{round}", view.id));
        let forks: Vec<View> = first
            .views
            .iter()
            .filter(|view| !view.id.contains('.'))
            .map(fork)
            .collect();
        first.add(forks[round].fork(&format!("{}.beside{round}", first.views[round].id)));
        audience.join_with(forks);
    }
    workload.finish();
    audience.join(first);
    audience.judge(&database);
}
