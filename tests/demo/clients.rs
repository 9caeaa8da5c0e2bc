//! The clients that people copy, against Postgres: README's page as it is written, and the demo's `stream.js`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use rustix::process::Signal;

use crate::browser::Page;
use crate::process::{Demo, wait_for};
use crate::{PAID, paid};

/// README's page.
fn example() -> &'static str {
    let readme = include_str!("../../README.md");
    let rest = readme.split("```html\n").nth(1).unwrap();
    rest.split("```").next().unwrap()
}

/// Serves one page for as long as the test runs.
fn serve(html: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let html: Arc<str> = html.into();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let request = BufReader::new(connection.try_clone().unwrap());
            let ends = |line: &std::io::Result<String>| line.as_ref().is_ok_and(String::is_empty);
            request.lines().find(ends);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length";
            write!(connection, "{head}: {}\r\n\r\n{html}", html.len()).ok();
        }
    });
    address
}

/// Opens a page at the README's own address, connected to a demo at the README's own address: the browser is told where
/// these are here.
fn open(demo: &Demo, html: &str) -> Page {
    let page = serve(html);
    let front = demo.address();
    let rules = format!("MAP localhost:8000 {page}, MAP 127.0.0.1:8080 {front}");
    let rules = format!("--host-resolver-rules={rules}");
    let mut page = Page::open_with("http://localhost:8000/live.html", &[&rules]);
    page.wait("document.getElementById('result') !== null");
    page
}

fn demo() -> Demo {
    let temp = Rc::new(tempfile::tempdir().unwrap());
    Demo::start_with(temp, &["--allow-origin", "http://localhost:8000"])
}

/// The keys of the rows that the page shows: the first value of each line but the first.
fn ids(page: &mut Page) -> BTreeSet<String> {
    let text = page.text("result");
    let id = |line: &str| line.split('"').nth(3).unwrap_or_default().to_owned();
    text.lines().skip(1).map(id).collect()
}

#[test]
fn the_readmes_page_works_as_it_is_written() {
    assert!(
        example().contains(
            &PAID
                .replace("'paid'", r#"${"paid"}"#)
                .replace("> 100", "> ${100}")
        )
    );
    let demo = demo();
    let mut page = open(&demo, example());
    wait_for("the page to agree with the database", || {
        let here = ids(&mut page);
        (!here.is_empty() && here == paid(&demo)).then_some(())
    });
    // Two keys that are one as a JavaScript number.
    demo.sql(
        "INSERT INTO orders (id, customer_id, status, amount) OVERRIDING SYSTEM VALUE
         SELECT id, (SELECT min(id) FROM customers), 'paid', 1234.50 FROM generate_series(9007199254740992, 9007199254740993) id",
    );
    let both = ["9007199254740992", "9007199254740993"];
    wait_for("both rows", || {
        let here = ids(&mut page);
        both.iter().all(|id| here.contains(*id)).then_some(())
    });
    demo.sql("DELETE FROM orders WHERE id = 9007199254740993");
    wait_for("one of them to go", || {
        let here = ids(&mut page);
        (here.contains(both[0]) && !here.contains(both[1])).then_some(())
    });
    assert_eq!(page.errors, [] as [String; 0]);
}

#[test]
fn the_readmes_page_keeps_values_that_an_update_did_not_touch() {
    let demo = demo();
    demo.sql(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, n int);
         ALTER TABLE notes ALTER body SET STORAGE EXTERNAL; GRANT SELECT ON notes TO walcast;
         ALTER PUBLICATION walcast ADD TABLE notes; INSERT INTO notes VALUES (1, repeat('long', 2000), 1)",
    );
    let query = example()
        .split("liveQuery(")
        .nth(1)
        .unwrap()
        .split(");")
        .next()
        .unwrap();
    let html = example().replace(query, r#"{ table: "notes" }"#);
    let mut page = open(&demo, &html);
    let shown = |n: u32| {
        format!(
            "document.getElementById('result').textContent.includes('\"n\":{n}') && document.getElementById('result').textContent.includes('longlong')"
        )
    };
    page.wait(&shown(1));
    demo.sql("UPDATE notes SET n = 2");
    page.wait(&shown(2));
}

/// A script that has the page's next two subscriptions refused as by a server that is busy.
const BUSY: &str = "{
    const send = WebSocket.prototype.send;
    const left = [{ code: 'internal' }, { code: 'limit_exceeded', limit: 'snapshots' }];
    globalThis.refused = [];
    WebSocket.prototype.send = function (text) {
        const { type, id } = JSON.parse(text);
        const error = type === 'subscribe' ? left.shift() : undefined;
        if (!error) return send.call(this, text);
        globalThis.refused.push(error.code);
        const data = JSON.stringify({ type: 'error', id, message: 'try again later', ...error });
        this.dispatchEvent(new MessageEvent('message', { data }));
    };
}";

#[test]
fn clients_ask_a_server_that_is_busy_again() {
    let demo = demo();
    let html = example().replace("<script type", &format!("<script>{BUSY}</script><script type"));
    let mut page = open(&demo, &html);
    wait_for("the README's page to agree with the database", || {
        let here = ids(&mut page);
        (!here.is_empty() && here == paid(&demo)).then_some(())
    });
    assert_eq!(page.eval("refused.length"), 2);

    let mut page = with_stream(&demo, "orders", 10_000);
    page.eval(&format!("{BUSY} 0"));
    page.eval("globalThis.other = new Query('other', 'customers', ''); stream.add(other); 0");
    page.wait("globalThis.other.live && globalThis.other.rows.size > 0");
    assert_eq!(page.eval("refused.length"), 2);
}

/// A page with a `Stream` of the demo's client on it, and a query as `query`.
fn with_stream(demo: &Demo, table: &str, silence: u32) -> Page {
    with_query(demo, &format!("'q', '{table}', ''"), silence)
}

/// The same with what makes the query, in JavaScript.
fn with_query(demo: &Demo, query: &str, silence: u32) -> Page {
    let mut page = Page::open(&demo.page);
    page.wait("document.getElementById('status')?.dataset.state === 'connected'");
    let start = format!(
        "import('/demo/stream.js').then(({{ Query, Stream }}) => {{
            globalThis.events = [];
            const event = (name) => (...args) => events.push([name, ...args.filter((arg) => typeof arg === 'string')]);
            const names = ['state', 'subscribed', 'transaction', 'live', 'progress', 'refused', 'restarted', 'failed'];
            const on = Object.fromEntries(names.map((name) => [name, event(name)]));
            globalThis.stream = new Stream(`ws://${{location.host}}/v1/stream?numbers=string`, on, {{ silence: {silence} }});
            globalThis.Query = Query;
            globalThis.query = new Query({query});
            stream.add(query);
            stream.connect();
        }}); 0"
    );
    page.eval(&start);
    page.wait("globalThis.query?.live");
    page
}

/// The rows of the query, as JSON, in order.
fn rows(page: &mut Page) -> Vec<String> {
    let rows = page.eval("[...query.rows.values()].map((row) => JSON.stringify(row)).sort()");
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row.as_str().unwrap().to_owned()).collect()
}

fn wait_for_rows(page: &mut Page, expected: &[&str]) {
    wait_for(&format!("{expected:?}"), || {
        (rows(page) == expected).then_some(())
    });
}

#[test]
fn equal_rows_of_a_table_without_a_key_are_several_rows() {
    let demo = Demo::start();
    demo.sql(
        "CREATE TABLE bag (a int, b text); ALTER TABLE bag REPLICA IDENTITY FULL; GRANT SELECT ON bag TO walcast;
         ALTER PUBLICATION walcast ADD TABLE bag; INSERT INTO bag VALUES (1, 'x'), (1, 'x')",
    );
    let mut page = with_stream(&demo, "bag", 10_000);
    let x = r#"{"a":1,"b":"x"}"#;
    let y = r#"{"a":1,"b":"y"}"#;
    wait_for_rows(&mut page, &[x, x]);
    demo.sql("INSERT INTO bag VALUES (1, 'x')");
    wait_for_rows(&mut page, &[x, x, x]);
    demo.sql("UPDATE bag SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM bag)");
    wait_for_rows(&mut page, &[x, x, y]);
    demo.sql("DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE b = 'x')");
    wait_for_rows(&mut page, &[x, y]);
    demo.sql("DELETE FROM bag");
    wait_for_rows(&mut page, &[]);
    assert_eq!(page.eval("query.faults"), 0);
}

#[test]
fn a_query_begins_again_when_its_table_has_changed_and_ends_when_it_has_no_meaning() {
    let demo = Demo::start();
    demo.sql(
        "CREATE TABLE things (id int PRIMARY KEY, a text); GRANT SELECT ON things TO walcast;
         ALTER PUBLICATION walcast ADD TABLE things; INSERT INTO things VALUES (1, 'x')",
    );
    let mut page = with_stream(&demo, "things", 10_000);
    demo.sql(
        "ALTER TABLE things ADD new_id int; UPDATE things SET new_id = 10;
         ALTER TABLE things DROP CONSTRAINT things_pkey, ADD PRIMARY KEY (id, a); INSERT INTO things VALUES (2, 'y')",
    );
    wait_for_rows(
        &mut page,
        &[
            r#"{"id":1,"a":"x","new_id":10}"#,
            r#"{"id":2,"a":"y","new_id":null}"#,
        ],
    );
    assert_eq!(page.eval("query.key.join()"), "id,a");
    page.wait("events.some(([name]) => name === 'restarted')");
    // It stays on the page, live, and goes on.
    demo.sql("DELETE FROM things WHERE id = 1");
    wait_for_rows(&mut page, &[r#"{"id":2,"a":"y","new_id":null}"#]);
    demo.sql("DROP TABLE things");
    page.wait("events.some(([name]) => name === 'refused')");
}

#[test]
fn a_page_holds_exactly_the_result_where_the_log_does_not_tell_what_was_in_it() {
    let demo = Demo::start();
    demo.sql(
        "CREATE TABLE jobs (id int PRIMARY KEY, state text, n int, body text);
         GRANT SELECT ON jobs TO walcast; ALTER PUBLICATION walcast ADD TABLE jobs;
         INSERT INTO jobs SELECT g, 'open', 0, repeat('x', 5000) FROM generate_series(1, 30) g",
    );
    let query = "'q', 'jobs', \"state = 'open'\", { undecided: 'send', columns: ['n'] }";
    let mut page = with_query(&demo, query, 10_000);
    // Rows that leave, rows that come back, and rows that never matched, none of which is logged as it was.
    demo.sql("UPDATE jobs SET state = 'done' WHERE id % 2 = 0");
    demo.sql("UPDATE jobs SET n = n + 1");
    demo.sql("UPDATE jobs SET state = 'open', body = body || 'y' WHERE id % 4 = 0");
    demo.sql("UPDATE jobs SET n = n + 1 WHERE id % 5 = 0; INSERT INTO jobs VALUES (31, 'open', 0)");
    wait_for("the last change", || {
        rows(&mut page).iter().any(|row| row.contains("31")).then_some(())
    });
    let result = "SELECT row_to_json(j) FROM (SELECT id, n FROM jobs WHERE state = 'open') j";
    let mut expected = demo.sql(result);
    expected.sort();
    wait_for(&format!("{expected:?}"), || {
        (rows(&mut page) == expected).then_some(())
    });
}

#[test]
fn the_rows_of_one_query_never_come_under_the_name_of_another() {
    let demo = Demo::start();
    let mut page = with_stream(&demo, "orders", 10_000);
    // Again and again the name is taken over while rows of the former query are on their way.
    page.eval(
        "globalThis.done = 0; globalThis.wrong = 0;
         (async () => {
             for (let i = 0; i < 40; i += 1) {
                 stream.remove(query);
                 query = new Query('q', i % 2 ? 'orders' : 'customers', '');
                 stream.add(query);
                 const mine = query;
                 while (!mine.live) await new Promise((resume) => setTimeout(resume, 1));
                 const column = i % 2 ? 'status' : 'city';
                 for (const row of mine.rows.values()) if (!(column in row)) wrong += 1;
                 done += 1;
             }
         })(); 0",
    );
    page.wait("done === 40");
    assert_eq!(page.eval("wrong"), 0);
    assert_eq!(
        page.eval("events.filter(([name]) => name === 'failed').length"),
        0
    );
}

#[test]
fn a_connection_that_is_dead_is_noticed_and_resumed() {
    let demo = Demo::start();
    let mut page = with_stream(&demo, "customers", 400);
    // Nothing answers any more, and nobody closes: as when the network is gone.
    demo.signal(Signal::STOP);
    page.wait("!query.live && events.some(([name, state]) => name === 'state' && state === 'waiting')");
    demo.signal(Signal::CONT);
    page.wait("query.live && query.begun");
    demo.sql("UPDATE customers SET name = 'back again' WHERE id = 1");
    page.wait("[...query.rows.values()].some((row) => row.name === 'back again')");
    assert_eq!(page.eval("query.faults"), 0);
}
