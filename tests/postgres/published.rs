//! The catalog's answers about publications.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use walcast::event::{Lookup, TableName};
use walcast::lsn::Lsn;
use walcast::postgres::*;

use crate::catalog::as_streamed;
use crate::{connect, info, left_out, publication, shared};

#[test]
fn the_catalog_knows_what_publications_have_of_a_table() {
    let cluster = &*shared();
    cluster.psql(
        r#"CREATE TABLE "W 1" (id int PRIMARY KEY, g int GENERATED ALWAYS AS (1) STORED, v varchar(9));
         CREATE TABLE w2 (id int); CREATE TABLE w3 (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE w4 PARTITION OF w3 FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
         CREATE TABLE w5 PARTITION OF w4 FOR VALUES FROM (0) TO (5);
         CREATE PUBLICATION w FOR TABLE "W 1" WITH (publish = 'insert, truncate');
         CREATE PUBLICATION w_plain FOR TABLE w3;
         CREATE PUBLICATION w_root FOR TABLE w3 WITH (publish_via_partition_root = true)"#,
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let mut ask = |of: &[&str], name: &str| {
        let of: Vec<_> = of.iter().map(|name| publication(name)).collect();
        let (as_of, found) = catalog
            .published_as(&of, &TableName::new("public", name), Lsn::ZERO)
            .unwrap();
        assert!(as_of > Lsn::ZERO);
        found
    };
    let mut published = |of: &[&str], name: &str| match ask(of, name) {
        Lookup::Published(published) => published,
        other => panic!("{name}: {other:?}"),
    };
    let table = published(&["w", "w_root"], "W 1");
    let columns: Vec<_> = table
        .relation
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.typmod, c.identity))
        .collect();
    assert_eq!(columns, [("id", -1, true), ("v", 13, false)]);
    assert_eq!(table.left_out, ["g"]);
    let operations = [table.insert, table.update, table.delete, table.truncate];
    assert_eq!(operations, [true, false, false, true]);
    assert!(!table.via_root && !table.row_filter);
    // A partition is published as itself, or as the topmost table that is published with it.
    let itself = published(&["w_plain"], "w5");
    assert_eq!(
        (itself.relation.table.name.as_str(), itself.via_root),
        ("w5", false)
    );
    for (name, via_root) in [("w3", false), ("w4", true), ("w5", true)] {
        let found = published(&["w_root", "w"], name);
        assert_eq!(
            (found.relation.table.name.as_str(), found.via_root),
            ("w3", via_root)
        );
    }
    assert_eq!(ask(&["w_plain"], "w3"), Lookup::Unpublished);
    assert_eq!(ask(&["w", "missing"], "w2"), Lookup::Unpublished);
    assert_eq!(ask(&[], "w2"), Lookup::Unpublished);
    assert_eq!(ask(&["w"], "w 1"), Lookup::Gone);
    if connect(cluster, Purpose::Application).server_version_num() < 150_000 {
        return left_out("column lists and row filters", "they came with version 15");
    }
    cluster.psql(r#"CREATE PUBLICATION w_some FOR TABLE "W 1" (id) WHERE (id > 0)"#);
    let Lookup::Published(some) = ask(&["w_some"], "W 1") else {
        panic!("it is published");
    };
    assert_eq!((some.relation.columns.len(), some.row_filter), (1, true));
    assert_eq!(some.left_out, ["g", "v"]);
}

/// A way to the server on `port` that does something before each question, which it is told the number of.
fn before_each_question(port: u16, act: impl Fn(usize) + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let questions = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&questions);
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut answers.0, &mut answers.1));
        // It ends with the connection.
        let _end = forward(client, server, |kind| {
            if kind == b'B' {
                act(asked.fetch_add(1, Ordering::SeqCst));
            }
        });
    });
    (own, questions)
}

/// Forwards a client's messages, the type of each of which is told to `before` (documentation, "Message Formats").
fn forward(mut client: TcpStream, mut server: TcpStream, mut before: impl FnMut(u8)) -> io::Result<()> {
    // The startup message has no type.
    let mut head = Vec::new();
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        client.read_exact(&mut body)?;
        head.extend(length);
        head.extend(body);
        server.write_all(&head)?;
        head.resize(1, 0);
        client.read_exact(&mut head)?;
        before(head[0]);
    }
}

#[test]
fn a_partition_that_is_altered_again_and_again_is_looked_at_twenty_times_and_then_given_up() {
    let cluster = &*shared();
    cluster.psql(
        "CREATE TABLE restless (id int PRIMARY KEY, c0 int) PARTITION BY RANGE (id);
         CREATE TABLE restless_1 PARTITION OF restless FOR VALUES FROM (0) TO (9);
         CREATE PUBLICATION restless FOR TABLE restless WITH (publish_via_partition_root = true)",
    );
    let altered = Arc::new(AtomicUsize::new(0));
    let left = Arc::new(AtomicUsize::new(0));
    let mut connection = connect(cluster, Purpose::Application);
    connection.query("SET lock_timeout = 0").unwrap();
    let connection = parking_lot::Mutex::new(connection);
    let (port, questions) = before_each_question(cluster.port(), {
        let (altered, left) = (Arc::clone(&altered), Arc::clone(&left));
        move |_| {
            let is_to_alter = |left: usize| left.checked_sub(1);
            if left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_to_alter)
                .is_ok()
            {
                let number = altered.fetch_add(1, Ordering::SeqCst);
                let sql = format!("ALTER TABLE restless RENAME COLUMN c{number} TO c{}", number + 1);
                connection.lock().query(&sql).unwrap();
            }
        }
    });
    let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    let mut catalog = Catalog::new(info(&url));
    let published = [publication("restless")];
    let name = TableName::new("public", "restless_1");
    let mut ask = |alterations: usize| {
        left.store(alterations, Ordering::SeqCst);
        let before = questions.load(Ordering::SeqCst);
        let answer = catalog.published_as(&published, &name, Lsn::ZERO);
        // The first question is for the position.
        (answer, questions.load(Ordering::SeqCst) - before - 1)
    };
    ask(0).0.unwrap();
    let (quiet, of_a_look) = ask(0);
    assert!(matches!(quiet.unwrap().1, Lookup::Published(_)));
    let (error, questions) = ask(usize::MAX);
    assert_eq!(questions, 20 * of_a_look);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("public.restless_1 was altered between two questions each of 20 times"),
        "{error}"
    );
    // It is asked again after that, and answered once the last look finds it at rest.
    let (answer, questions) = ask(1 + 19 * of_a_look);
    assert_eq!(questions, 20 * of_a_look);
    let Lookup::Published(found) = answer.unwrap().1 else {
        panic!("it is published");
    };
    let column = format!("c{}", altered.load(Ordering::SeqCst));
    let columns: Vec<_> = found
        .relation
        .columns
        .iter()
        .map(|column| &*column.name)
        .collect();
    assert_eq!(columns, ["id", &*column]);
}

/// Tables, partitions and publications of every kind.
fn publications_of_every_kind(version: u32) -> String {
    let mut sql = String::from(
        "CREATE SCHEMA one; CREATE SCHEMA two;
         CREATE TABLE one.plain (id int PRIMARY KEY, a int, gone int, b int);
         ALTER TABLE one.plain DROP COLUMN gone;
         CREATE TABLE two.plain (id int); CREATE TABLE two.child () INHERITS (two.plain); CREATE TABLE two.bare ();
         CREATE UNLOGGED TABLE one.unlogged (id int); CREATE VIEW one.seen AS SELECT 1; CREATE SEQUENCE one.counts;
         CREATE TABLE one.root (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
         CREATE TABLE two.middle PARTITION OF one.root FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
         CREATE TABLE one.leaf PARTITION OF two.middle FOR VALUES FROM (0) TO (5);
         CREATE TABLE two.leaf PARTITION OF two.middle FOR VALUES FROM (5) TO (9);
         CREATE TABLE one.other PARTITION OF one.root FOR VALUES FROM (9) TO (10);
         CREATE TABLE one.childless (id int) PARTITION BY RANGE (id);
         CREATE PUBLICATION empty;",
    );
    if version >= 160_000 {
        // The view of 15 lists them, though the server does not publish them.
        sql += "ALTER TABLE one.plain ADD COLUMN g int GENERATED ALWAYS AS (1) STORED;";
    }
    let mut contents = vec![
        "FOR ALL TABLES",
        "FOR TABLE one.plain, two.plain, two.bare, one.root, one.childless",
        "FOR TABLE ONLY two.plain",
        "FOR TABLE two.middle, one.other",
        "FOR TABLE one.leaf",
    ];
    if version >= 150_000 {
        contents.extend([
            "FOR TABLES IN SCHEMA one",
            "FOR TABLES IN SCHEMA two",
            "FOR TABLES IN SCHEMA two, TABLE one.plain WHERE (a > 0), one.other, one.leaf WHERE (id > 2)",
            "FOR TABLE one.plain (id, b) WHERE (id > 0), one.other",
            "FOR TABLES IN SCHEMA two, TABLE two.plain",
            "FOR TABLE one.root, one.leaf (id, a) WHERE (id > 1)",
        ]);
    }
    if version >= 180_000 {
        contents.push("FOR TABLE one.plain (id, g)");
    }
    for (number, content) in contents.iter().enumerate() {
        for root in [false, true] {
            sql += &format!(
                "CREATE PUBLICATION p{number}_{root} {content} WITH (publish_via_partition_root = {root});"
            );
        }
    }
    if version >= 150_000 {
        // Only through its root may a partitioned table have these.
        sql +=
            "CREATE PUBLICATION root FOR TABLE one.root (id) WHERE (id > 0), one.leaf (id, a) WHERE (id > 1)
                WITH (publish_via_partition_root = true);";
    }
    if version >= 180_000 {
        sql += "CREATE PUBLICATION generated FOR TABLE one.plain WITH (publish_generated_columns = stored);
                CREATE PUBLICATION all_generated FOR ALL TABLES WITH (publish_generated_columns = stored);";
    }
    sql
}

#[test]
fn publications_have_the_tables_that_the_servers_view_says() {
    let cluster = &*shared();
    let version = connect(cluster, Purpose::Application).server_version_num();
    cluster.psql("CREATE DATABASE published");
    cluster
        .try_psql("published", &publications_of_every_kind(version))
        .unwrap();
    let mut connection = Connection::connect(&info(&cluster.url("published")), Purpose::Application).unwrap();
    let (view_filters, filters) = match version {
        150_000.. => (
            "attnames::text, rowfilter",
            "attnames::text, pg_get_expr(qual, relid)",
        ),
        _ => ("NULL, NULL", "NULL, NULL"),
    };
    let mut ask = |of: &str, filters: &str| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', pubname, schemaname, tablename, {filters}) FROM {of} t ORDER BY 1"
        );
        let rows = connection.query(&sql).unwrap();
        rows.iter().map(|row| row.get(0).unwrap().to_owned()).collect()
    };
    let expected = ask("pg_publication_tables", view_filters);
    assert!(expected.len() > 30, "{expected:#?}");
    assert_eq!(ask(&publication_tables(version), filters), expected);
}

#[test]
fn no_question_waits_for_a_table_that_is_locked() {
    let cluster = &*shared();
    let version = connect(cluster, Purpose::Application).server_version_num();
    let filter = if version >= 150_000 { "WHERE (id > 0)" } else { "" };
    cluster.psql(&format!(
        "CREATE TABLE l1 (id int PRIMARY KEY); CREATE TABLE l2 (id int PRIMARY KEY);
         CREATE PUBLICATION locked FOR TABLE l1, l2 {filter}"
    ));
    let mut holder = connect(cluster, Purpose::Application);
    holder
        .query("BEGIN; LOCK TABLE l1, l2 IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let url = cluster.url("postgres");
    let separator = if url.contains('?') { '&' } else { '?' };
    let impatient = info(&format!("{url}{separator}options=-c%20lock_timeout%3D100"));
    let mut catalog = Catalog::new(impatient.clone());
    let published = [publication("locked")];
    assert_eq!(catalog.tables(&published).unwrap().len(), 2);
    for name in ["l1", "l2"] {
        let name = TableName::new("public", name);
        let table = catalog.table(&published, &name).unwrap().unwrap();
        assert!(matches!(
            catalog.published_as(&published, &name, Lsn::ZERO).unwrap().1,
            Lookup::Published(_)
        ));
        catalog.describe(&as_streamed(&table), Lsn::ZERO).unwrap();
    }
    // That the timeout is in force.
    let mut waits = Connection::connect(&impatient, Purpose::Application).unwrap();
    let error = waits.query("SELECT FROM l1").unwrap_err();
    assert!(error.to_string().contains("lock timeout"), "{error}");
    holder.query("ROLLBACK").unwrap();
}
