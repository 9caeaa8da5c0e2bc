//! First contact: the demo, its page in a real browser, and `walcast tail`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod browser;
mod clients;
mod process;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::rc::Rc;

use rustix::process::Signal;
use serde_json::Value;

use browser::Page;
use process::{Demo, wait_for, walcast};

const PAID: &str = "status = 'paid' AND amount > 100";
/// The rows on the page, without those that are just fading out: id, status, amount.
const SHOWN: &str = "[...document.querySelectorAll('#result tbody tr:not(.leave)')]
    .map((tr) => [0, 2, 3].map((i) => tr.cells[i].textContent))";

fn shown(page: &mut Page) -> Vec<(String, String, f64)> {
    let rows = page.eval(SHOWN);
    let row = |row: &Value| {
        let text = |i: usize| row[i].as_str().unwrap().to_owned();
        (text(0), text(1), text(2).parse().unwrap())
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

fn paid(demo: &Demo) -> BTreeSet<String> {
    demo.sql(&format!("SELECT id FROM orders WHERE {PAID}"))
        .into_iter()
        .collect()
}

/// Waits until the page shows exactly the rows that the database has. Both move on: that they agree once is what can be
/// asked for, and is out of reach once a single change has been missed.
fn wait_until_it_agrees(page: &mut Page, demo: &Demo) {
    wait_for("the page to agree with the database", || {
        let here: BTreeSet<String> = shown(page).into_iter().map(|(id, ..)| id).collect();
        (!here.is_empty() && here == paid(demo)).then_some(())
    });
}

#[test]
fn a_person_narrows_the_page_to_a_predicate_cuts_the_connection_and_resumes() {
    let demo = Demo::start();
    let mut page = Page::open(&demo.page);
    page.wait("document.querySelectorAll('#result tbody tr').length > 50");
    assert!(page.text("status").contains("live"));

    page.type_into("where", PAID);
    page.wait("[...document.querySelectorAll('#result tbody td:nth-child(3)')].every((td) => td.textContent === 'paid')");
    for (id, status, amount) in shown(&mut page) {
        assert!(
            status == "paid" && amount > 100.0,
            "order {id}: {status} {amount}"
        );
    }
    wait_until_it_agrees(&mut page, &demo);

    page.type_into("where", "status = 'paid' AND amounts > 100");
    page.wait("!document.getElementById('problem').hidden");
    assert_eq!(
        page.eval("document.querySelector('#place mark').textContent"),
        "amounts"
    );
    assert!(
        !shown(&mut page).is_empty(),
        "the last good predicate's rows stay"
    );
    page.type_into("where", PAID);
    page.wait("document.getElementById('problem').hidden");

    page.click("toggle");
    page.wait("document.getElementById('status').dataset.state === 'offline'");
    let unseen = demo.sql(
        "WITH one AS (SELECT id FROM orders WHERE status = 'new' LIMIT 1)
         UPDATE orders SET status = 'paid', amount = 4321.50 FROM one WHERE orders.id = one.id RETURNING orders.id",
    );
    assert!(shown(&mut page).iter().all(|(_, _, amount)| *amount != 4321.5));
    page.click("toggle");
    page.wait("document.getElementById('notice').textContent.startsWith('Resumed after')");
    let notice = page.text("notice");
    assert!(notice.contains("all in order, none twice"), "{notice}");
    assert!(!notice.contains(" 0 changes"), "{notice}");
    assert!(
        shown(&mut page).iter().any(|(id, ..)| *id == unseen[0])
            || demo.sql(&format!("SELECT status FROM orders WHERE id = {}", unseen[0])) != ["paid"]
    );
    wait_until_it_agrees(&mut page, &demo);

    // docs/demo.png: WALCAST_SCREENSHOT=docs/demo.png cargo test --test demo a_person
    if let Ok(path) = std::env::var("WALCAST_SCREENSHOT") {
        page.wait("document.getElementById('log').children.length > 12");
        page.save(&path);
    }
    page.resize(390, 844);
    let overflow = page.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(overflow, 0, "on a phone nothing sticks out");
    assert_eq!(page.errors, [] as [String; 0]);

    let (status, left) = demo.end(Signal::INT);
    assert!(status.success(), "{status}");
    assert_eq!(left, [] as [String; 0]);
}

#[test]
fn two_tenants_see_their_own_tickets_and_a_row_moves_between_them() {
    let demo = Demo::start();
    let mut page = Page::open(&format!("{}tenants", demo.page));
    let shows = |tenant: &str, subject: &str| {
        format!(
            "[...document.querySelectorAll('#{tenant} tbody tr:not(.leave)')].some((tr) => tr.innerText.includes('{subject}'))"
        )
    };
    for tenant in ["acme", "globex"] {
        page.wait(&format!(
            "document.querySelector('#{tenant} .state')?.dataset.state === 'connected'"
        ));
        page.wait(&format!(
            "document.querySelectorAll('#{tenant} tbody tr').length > 0"
        ));
    }
    // The traffic leaves solved tickets where they are, and deletes the oldest first.
    demo.sql(
        "INSERT INTO support.tickets (tenant, subject, status, internal_note, updated_at)
         VALUES ('acme', 'the one that moves', 'solved', 'UNSEEN', now() + interval '1 day')",
    );
    page.wait(&shows("acme", "the one that moves"));
    demo.sql("UPDATE support.tickets SET tenant = 'globex', internal_note = 'UNSEEN, too' WHERE subject = 'the one that moves'");
    page.wait(&shows("globex", "the one that moves"));
    page.wait(&format!("!({})", shows("acme", "the one that moves")));
    let text =
        page.eval("document.body.innerText.replace(document.getElementById('policies').innerText, '')");
    let text = text.as_str().unwrap();
    assert!(!text.contains("UNSEEN"), "{text}");
    // The tokens last a minute, and are replaced half a minute before.
    for tenant in ["acme", "globex"] {
        page.wait(&format!(
            "document.querySelector('#{tenant} .claims')?.innerText.includes('replaced')"
        ));
    }
    demo.sql("INSERT INTO support.tickets (tenant, subject) VALUES ('globex', 'it goes on')");
    // Whoever has it by now.
    let goes_on = [shows("globex", "it goes on"), shows("acme", "it goes on")];
    page.wait(&goes_on.join(" || "));

    // Rows that each tenant sees but a part of are the operator's.
    let mut console = Page::open(&demo.console);
    console.wait("document.body?.innerText.includes('support.tickets')");
    console.eval(
        "fetch('/api/access').then((answer) => answer.json()).then((told) => { globalThis.told = told }); 0",
    );
    console.wait("globalThis.told?.rows === true");
    assert_eq!(console.errors, [] as [String; 0]);

    let without = tail(&demo, &["support.tickets"]);
    let said = String::from_utf8(without.stderr).unwrap();
    assert!(said.contains("unknown_table"), "{said}");

    // docs/tenants.png: WALCAST_SCREENSHOT_OF_TENANTS=docs/tenants.png cargo test --test demo two_tenants
    if let Ok(path) = std::env::var("WALCAST_SCREENSHOT_OF_TENANTS") {
        page.save(&path);
    }
    page.resize(390, 844);
    let overflow = page.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(overflow, 0, "on a phone nothing sticks out");
    assert_eq!(page.errors, [] as [String; 0]);
}

#[test]
fn a_port_in_use_is_said_before_anything_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = walcast().args(["demo", "--listen", &address]).output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains(&format!("cannot listen on {address}: choose another")),
        "{words}"
    );
    assert!(!words.contains("starting"), "{words}");
}

#[test]
fn a_server_that_is_not_where_it_was_said_to_be_is_named() {
    let mut command = walcast();
    command.args(["demo", "--listen", "127.0.0.1:0"]);
    let output = command.env("PG_BIN", "/nowhere").output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("no postgres in /nowhere: set PG_BIN"), "{words}");
}

#[test]
fn a_demo_that_is_killed_leaves_no_server_behind_and_its_files_to_the_next() {
    let temp = Rc::new(tempfile::tempdir().unwrap());
    let demo = Demo::start_in(Rc::clone(&temp));
    let cluster = demo.cluster.clone();
    demo.kill();
    wait_for("the server's end", || {
        (process::processes_that_name(&cluster).is_empty() && !cluster.exists()).then_some(())
    });
    let files = || std::fs::read_dir(temp.path()).unwrap().count();
    assert_eq!(files(), 1, "the journal's directory");
    let demo = Demo::start_in(Rc::clone(&temp));
    assert_eq!(files(), 1, "its own");
    let (_, left) = demo.end(Signal::INT);
    assert_eq!(left, [] as [String; 0]);
}

#[test]
fn make_demo_runs_what_cargo_built_wherever_that_is() {
    // Not to build a release here: make only prints what it would run.
    let output = Command::new("make").args(["-n", "demo"]).output().unwrap();
    let recipe = String::from_utf8(output.stdout).unwrap();
    assert!(
        recipe.contains("cargo run --release --locked -- demo"),
        "{recipe}"
    );
    assert!(!recipe.contains("target/"), "{recipe}");
}

fn tail(demo: &Demo, args: &[&str]) -> Output {
    let url = demo.stream();
    wait_for("the server to be ready", || {
        let output = walcast()
            .args(["tail", "--url", &url])
            .args(args)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (!words.contains("cannot connect")).then_some(output)
    })
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn tail_resumes_after_any_line_and_ends_with_the_servers_words() {
    let demo = Demo::start();
    // The first transaction fills the shop: it comes in several messages, and its lines are places inside it.
    let all = lines(&tail(&demo, &["orders", "--from", "earliest", "--count", "1200"]));
    assert_eq!(all.len(), 1200);
    for at in [0, 700, 998, 1100] {
        let from = all[at]["position"].as_str().unwrap();
        let count = (all.len() - at - 1).to_string();
        let rest = lines(&tail(&demo, &["orders", "--from", from, "--count", &count]));
        assert_eq!(rest, all[at + 1..], "after {from}");
    }

    let args = [
        "orders",
        "--where",
        "amount > $1 AND status = $2",
        "--param",
        "100",
        "--param",
        "paid",
        "--count",
        "3",
    ];
    for line in lines(&tail(
        &demo,
        &[&args[..], &["--ops", "insert", "--columns", "status,amount"]].concat(),
    )) {
        assert_eq!(
            (&line["op"], &line["row"]["status"]),
            (&"insert".into(), &"paid".into()),
            "{line}"
        );
        assert_eq!(
            line["row"].as_object().unwrap().len(),
            3,
            "the key is always there: {line}"
        );
    }

    for (args, words) in [
        (
            vec!["orders", "--where", "amounts > 1"],
            "unknown_column: there is no column \"amounts\"",
        ),
        (vec!["nothing"], "unknown_table: "),
        (
            vec!["customers", "--where", "vip", "--undecided", "refuse"],
            "replica_identity: ",
        ),
        (
            vec!["orders", "--from", "0/1", "--epoch", "another"],
            "resume_invalid: ",
        ),
    ] {
        let output = tail(&demo, &args);
        assert!(!output.status.success(), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{args:?}: {said}");
    }

    // The terminal was closed.
    let (status, left) = demo.end(Signal::HUP);
    assert!(status.success(), "{status}");
    assert_eq!(left, [] as [String; 0]);
}
