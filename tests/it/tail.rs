//! `walcast tail`: several tables, a server that comes later, and words for people.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Authority, Database, PROGRAM, Printing, Setup, Walcast, eventually, eventually_equal};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, note text); ALTER TABLE a REPLICA IDENTITY FULL;
    CREATE TABLE b (id int PRIMARY KEY, j json); CREATE PUBLICATION pub FOR TABLE a, b";

fn tail(walcast: &Walcast, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    let url = format!("ws://{}/v1/stream", walcast.listen());
    command.args(["tail", "--url", &url]).args(args);
    command
}

#[test]
fn several_tables_are_followed_by_one_tail_which_resumes_after_any_line() {
    let database = Database::new(TABLES);
    let walcast = Setup::new(&database).start();
    let running = Printing::start(tail(&walcast, &["a", "b", "--snapshot"]));
    running.line("subscribed to a");
    running.line("subscribed to b");
    // What is written before the snapshots are taken comes with them, without a position.
    eventually_equal("both are live", 2.0, || walcast.metric("queries"));
    database.sql("BEGIN; INSERT INTO a VALUES (1, 'x'); INSERT INTO b VALUES (7, '{\n\"k\":\n1}'); COMMIT");
    let lines = ["\"table\":\"a\"", "\"table\":\"b\""].map(|words| running.line(words));
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    assert_eq!(lines[0]["row"], json!({"id": 1, "note": "x"}));
    assert_eq!(lines[1]["row"], json!({"id": 7, "j": {"k": 1}}));
    drop(running);
    // The one before the other: inside the transaction.
    let from = lines[0]["position"].as_str().unwrap();
    let output = tail(&walcast, &["a", "b", "--from", from, "--count", "1"])
        .output()
        .unwrap();
    let rest: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rest, lines[1]);
}

#[test]
fn people_read_old_values_beside_new_ones() {
    let database = Database::new(TABLES);
    let walcast = Setup::new(&database).start();
    let running = Printing::start(tail(&walcast, &["a", "--format", "text", "--old"]));
    running.line("subscribed to a");
    database.sql("INSERT INTO a VALUES (1, 'new')");
    assert!(running.line("insert").ends_with(r#"insert  id: 1, note: "new""#));
    database.sql("UPDATE a SET note = 'paid'");
    assert!(
        running
            .line("update")
            .ends_with(r#"update  id: 1, note: "new" → "paid""#)
    );
    database.sql("DELETE FROM a");
    let line = running.line("delete");
    assert!(
        line.ends_with(r#"delete  id: 1  old id: 1, note: "paid""#),
        "{line}"
    );
}

#[test]
fn a_server_that_is_not_there_is_waited_for_on_request_only() {
    let database = Database::new(TABLES);
    let setup = Setup::new(&database);
    let first = setup.start();
    let at = first.listen();
    let args = |wait: &[&str]| {
        let mut command = tail(&first, &["a", "--count", "1"]);
        command.args(wait);
        command
    };
    let without = args(&[]);
    let with = args(&["--wait"]);
    first.kill();
    let mut without = without;
    let output = without.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        words.contains("walcast serve") && words.contains("--wait"),
        "{words}"
    );

    let waiting = Printing::start(with);
    waiting.line("connecting again");
    let _second = setup.listen_on(at).start();
    waiting.line("subscribed to a");
    database.sql("INSERT INTO a VALUES (1)");
    waiting.line("\"op\":\"insert\"");
}

#[test]
fn the_tables_that_can_be_followed_are_listed_with_what_cannot_be_told_of_them() {
    let database = Database::new(TABLES);
    database.sql("CREATE TABLE unpublished (id int)");
    let list = |flags: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["tables", "--database-url", database.url(), "--slot", "none"]);
        let output = command
            .args(["--publication", "pub"])
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = list(&[]);
    assert!(
        text.contains("public.a\n  key: id; replica identity: full\n  columns: id integer, note text\n"),
        "{text}"
    );
    assert!(
        text.contains("fix: ALTER TABLE public.b REPLICA IDENTITY FULL"),
        "{text}"
    );
    assert!(!text.contains("unpublished"), "{text}");
    let tables: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    assert_eq!(tables[1]["table"], "public.b");
    assert_eq!(tables[1]["key"], json!(["id"]));
    assert_eq!(tables[1]["columns"][1], json!({"name": "j", "type": "json"}));
}

#[test]
fn a_refusal_comes_with_what_to_do() {
    let database = Database::new(TABLES);
    let walcast = Setup::new(&database).start();
    let output = tail(&walcast, &["a", "nowhere"]).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("nowhere: unknown_table: "), "{words}");
    assert!(words.contains("hint: `walcast tables`"), "{words}");
    for url in ["http://127.0.0.1:8080", "127.0.0.1:8080/v1/stream"] {
        let output = Command::new(PROGRAM)
            .args(["tail", "a", "--url", url])
            .output()
            .unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(
            words.contains("write it as in ws://127.0.0.1:8080/v1/stream"),
            "{words}"
        );
        assert_eq!(output.status.code(), Some(2));
    }
    eventually("the server goes on", || walcast.ready().ok());
}

#[test]
fn a_tail_goes_on_with_the_time_that_it_was_told() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz DEFAULT now()); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let predicate = "at > now() - interval '1 hour'";
    let running = Printing::start(tail(&walcast, &["t", "--where", predicate]));
    let warning = running.line("warning: now() is ");
    let now = warning
        .split("now() is ")
        .nth(1)
        .unwrap()
        .split(" in this")
        .next()
        .unwrap();
    database.sql("INSERT INTO t VALUES (1)");
    let line: Value = serde_json::from_str(&running.line("\"insert\"")).unwrap();
    // The connection is lost, and made again by itself.
    let address = walcast.listen();
    walcast.kill();
    let walcast = setup.listen_on(address).start();
    running.line("subscribed to t");
    database.sql("INSERT INTO t VALUES (2)");
    running.line("\"insert\"");
    drop(running);
    let from = line["position"].as_str().unwrap();
    let args = ["t", "--where", predicate, "--from", from, "--count", "1"];
    let refused = tail(&walcast, &args).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("send that as \"now\""));
    let output = tail(&walcast, &args).args(["--now", now]).output().unwrap();
    let rest: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rest["row"]["id"], 2);
}

#[test]
fn a_server_by_tls_is_followed_if_its_certificate_is_believed_and_no_other() {
    let database = Database::new(TABLES);
    database.sql("INSERT INTO a VALUES (1, 'x')");
    let (authority, stranger) = (Authority::new(2030), Authority::new(2030));
    let setup = authority.shown_by(Setup::new(&database));
    let walcast = setup.start();
    let port = walcast.listen().port();
    let ca = |authority: &Authority| authority.path("ca.pem").to_str().unwrap().to_owned();
    let tail = |url: String, args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["tail", "a", "--snapshot", "--count", "1", "--url", &url]);
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let believed = ca(&authority);
    for host in ["localhost", "127.0.0.1"] {
        let (code, said) = tail(
            format!("wss://{host}:{port}/v1/stream"),
            &["--ca-file", &believed],
        );
        assert!(code == Some(0) && said.contains(r#""row":{"id":1,"#), "{said}");
    }
    // The server's own certificate is enough.
    let own = authority.path("own.pem");
    let chain = std::fs::read_to_string(authority.path("chain.pem")).unwrap();
    let (first, _) = chain.split_at(chain.find("-----END").unwrap());
    std::fs::write(&own, format!("{first}-----END CERTIFICATE-----\n")).unwrap();
    let url = format!("wss://localhost:{port}/v1/stream");
    let (code, said) = tail(url.clone(), &["--ca-file", own.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    // Another authority, none that this machine believes, another name, and no TLS on either side.
    let refused = |url: &str, args: &[&str], words: &str| {
        let (code, said) = tail(url.to_owned(), args);
        assert!(code == Some(1) && said.contains(words), "{said}");
        assert!(!said.contains(r#""row""#), "{said}");
    };
    refused(
        &url,
        &["--ca-file", &ca(&stranger)],
        "--ca-file names a file with the authority",
    );
    let elsewhere = format!("wss://[::ffff:127.0.0.1]:{port}/v1/stream");
    refused(&elsewhere, &["--ca-file", &believed], "--url has to have a name");
    refused(
        &format!("ws://localhost:{port}/v1/stream"),
        &[],
        "this port speaks TLS: connect by wss://",
    );
    let plain = Setup::new(&database).on_slot("plain").start();
    let url = format!("wss://localhost:{}/v1/stream", plain.listen().port());
    refused(&url, &["--ca-file", &believed], "does the server speak TLS");
    // One that has expired is not believed, though its authority is.
    authority.issue(2020);
    let url = format!("wss://localhost:{port}/v1/stream");
    walcast.hang_up();
    walcast.logs("the certificate has expired");
    eventually("the new one is shown", || {
        let (_, said) = tail(url.clone(), &["--ca-file", &believed]);
        said.contains("the server needs another certificate")
            .then_some(())
    });
    // What is wrong with the flags is said before anything is tried.
    for (args, words) in [
        (
            &["--ca-file", "/nowhere.pem"][..],
            "--ca-file: /nowhere.pem: No such file",
        ),
        (
            &["--ca-file", &believed, "--url", "ws://localhost/"],
            "--ca-file is for servers by TLS",
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        command.args(["tail", "a"]);
        if !args.contains(&"--url") {
            command.args(["--url", &url]);
        }
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
    }
}

#[test]
fn a_token_that_others_can_read_on_its_way_is_warned_of() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("token");
    std::fs::write(&file, "t").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (url, is_warned) in [
        // Of an address that is nobody's (RFC 6890), and of a port that is.
        ("ws://0.0.0.1:9/v1/stream", true),
        ("ws://127.0.0.1:9/v1/stream", false),
    ] {
        let output = Command::new(PROGRAM)
            .args(["tail", "a", "--url", url, "--token-file"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said.contains("without TLS (wss://) the token can be read"),
            is_warned,
            "{said}"
        );
    }
}
