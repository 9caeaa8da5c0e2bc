use super::*;
use crate::lsn::Lsn;

const HELLO: &str = r#"{"type":"hello","protocol":1,"server":"walcast/0.1.0","database":"shop","epoch":"e1","position":"0/9","earliest":"0/1"}"#;

fn query() -> Query {
    Query {
        tables: vec!["orders".into()],
        predicate: Some("größe = 1 AND\n amount > x".into()),
        params: vec![],
        columns: vec![],
        ops: vec![],
        old: false,
        undecided: None,
        snapshot: false,
        now: None,
    }
}

fn receive(feed: &mut Feed, text: &str) -> Vec<Output> {
    let mut out = Vec::new();
    feed.receive(text, &mut out).unwrap();
    out
}

fn following(query: Query, start: Start, epoch: Option<&Epoch>) -> Feed {
    Feed::new(query, Format::Json, start, epoch)
}

fn subscribe(feed: &Feed) -> serde_json::Value {
    let message = feed.subscriptions[0].message(&feed.query);
    serde_json::from_str(&message).unwrap()
}

#[test]
fn a_subscription_says_what_was_asked_for_and_nothing_else() {
    let bare = Query {
        predicate: None,
        ..query()
    };
    let feed = following(bare, Start::Now, None);
    assert_eq!(
        subscribe(&feed),
        json!({"type": "subscribe", "id": "tail-1", "table": "orders"})
    );
    let full = Query {
        predicate: Some("id = $1".into()),
        params: vec![json!("7")],
        columns: vec!["id".into()],
        ops: vec!["insert".into()],
        old: true,
        undecided: Some("refuse"),
        ..query()
    };
    let feed = following(
        full,
        Start::After(Position::after_change(Lsn(255), 3)),
        Some(&Epoch("e0".into())),
    );
    let expected = json!({
        "type": "subscribe", "id": "tail-1", "table": "orders", "where": "id = $1", "params": ["7"],
        "columns": ["id"], "ops": ["insert"], "old": true, "undecided": "refuse", "from": "0/FF:3", "epoch": "e0"
    });
    assert_eq!(subscribe(&feed), expected);
}

#[test]
fn the_epoch_goes_with_earliest_as_with_a_position() {
    let feed = following(query(), Start::Earliest, Some(&Epoch("e0".into())));
    assert_eq!(
        (&subscribe(&feed)["from"], &subscribe(&feed)["epoch"]),
        (&json!("earliest"), &json!("e0"))
    );
}

#[test]
fn what_it_subscribes_with_is_what_the_server_reads() {
    let feed = following(query(), Start::Earliest, None);
    let message = crate::protocol::ClientMessage::parse(&subscribe(&feed).to_string());
    assert!(
        matches!(message, Ok(crate::protocol::ClientMessage::Subscribe(_))),
        "{message:?}"
    );
}

#[test]
fn a_line_holds_the_position_after_its_change_and_its_row_as_the_server_wrote_it() {
    let mut feed = following(query(), Start::Now, None);
    receive(&mut feed, HELLO);
    receive(&mut feed, r#"{"type":"live","id":"tail-1","position":"0/5"}"#);
    let tx = r#"{"type":"tx","position":"END","xid":7,"ts":"2026-01-01T00:00:00.000001Z","changes":[{"id":"tail-1","seq":2,"op":"insert","row":{"b":1.50,"a":12345678901234567890.10}},{"id":"tail-1","seq":4,"op":"delete","cause":"update","key":{"b":1}}]}"#;
    let lines = receive(&mut feed, &tx.replace("END", "0/FF"));
    let expected = [
        r#"{"position":"0/FF:2","seq":2,"xid":7,"ts":"2026-01-01T00:00:00.000001Z","op":"insert","row":{"b":1.50,"a":12345678901234567890.10}}"#,
        r#"{"position":"0/FF","seq":4,"xid":7,"ts":"2026-01-01T00:00:00.000001Z","op":"delete","cause":"update","key":{"b":1}}"#,
    ];
    assert_eq!(lines, expected.map(|line| Output::Change(line.into())));
    assert_eq!(subscribe(&feed)["from"], "0/FF");
    assert_eq!(subscribe(&feed)["epoch"], "e1");
    receive(&mut feed, &tx.replace("END", "0/FF:4"));
    assert_eq!(subscribe(&feed)["from"], "0/FF:4");
}

#[test]
fn it_resumes_from_the_last_position_it_was_told() {
    let mut feed = following(query(), Start::Earliest, None);
    receive(&mut feed, HELLO);
    assert_eq!(subscribe(&feed)["from"], "earliest");
    let subscribed = r#"{"type":"subscribed","id":"tail-1","position":"0/1","key":[],"columns":[],"replica_identity":"full","warnings":["careful"]}"#;
    let notes = receive(&mut feed, subscribed);
    assert_eq!(notes.last(), Some(&Output::Note("warning: careful".into())));
    for (message, from) in [
        (r#"{"type":"live","id":"tail-1","position":"0/5"}"#, "0/5"),
        (r#"{"type":"progress","position":"0/6"}"#, "0/6"),
        (
            r#"{"type":"tx","position":"0/7","xid":1,"ts":"","changes":[]}"#,
            "0/7",
        ),
        (r#"{"type":"invented_later","position":"0/8"}"#, "0/7"),
    ] {
        assert!(receive(&mut feed, message).is_empty());
        assert_eq!(subscribe(&feed)["from"], from);
    }
}

#[test]
fn rows_that_were_there_come_first_and_anew_if_they_are_cut_short() {
    let with_snapshot = Query {
        snapshot: true,
        ..query()
    };
    let mut feed = following(with_snapshot, Start::Now, None);
    receive(&mut feed, HELLO);
    let subscribed = r#"{"type":"subscribed","id":"tail-1","position":"0/1","key":[],"columns":[],"replica_identity":"full","warnings":[]}"#;
    receive(&mut feed, subscribed);
    let rows = receive(
        &mut feed,
        r#"{"type":"snapshot","id":"tail-1","rows":[{"b":1.50},{"b":2}]}"#,
    );
    let expected = [
        r#"{"op":"snapshot","row":{"b":1.50}}"#,
        r#"{"op":"snapshot","row":{"b":2}}"#,
    ];
    assert_eq!(rows, expected.map(|line| Output::Change(line.into())));
    receive(
        &mut feed,
        r#"{"type":"tx","position":"0/3","id":"tail-1","xid":1,"ts":"","changes":[]}"#,
    );
    let anew = subscribe(&feed);
    assert_eq!((&anew["snapshot"], anew.get("from")), (&json!(true), None));
    let outputs = receive(&mut feed, subscribed);
    assert_eq!(outputs.last(), Some(&Output::Reset(r#"{"op":"reset"}"#.into())));
    let outputs = receive(&mut feed, subscribed);
    assert!(
        matches!(outputs.as_slice(), [Output::Note(_)]),
        "nothing has come since: {outputs:?}"
    );
    receive(&mut feed, r#"{"type":"live","id":"tail-1","position":"0/5"}"#);
    let resumed = subscribe(&feed);
    assert_eq!((resumed.get("snapshot"), &resumed["from"]), (None, &json!("0/5")));
}

fn with_two_tables() -> Feed {
    let tables = vec!["orders".into(), "items".into()];
    let mut feed = following(Query { tables, ..query() }, Start::Now, None);
    receive(&mut feed, HELLO);
    for id in ["tail-1", "tail-2"] {
        let subscribed = format!(
            r#"{{"type":"subscribed","id":"{id}","position":"0/10","key":[],"columns":[],"replica_identity":"full","warnings":[]}}"#
        );
        receive(&mut feed, &subscribed);
    }
    feed
}

fn line(output: &Output) -> serde_json::Value {
    match output {
        Output::Change(line) => serde_json::from_str(line).unwrap(),
        Output::Note(note) | Output::Reset(note) => panic!("{note}"),
    }
}

#[test]
fn lines_of_several_tables_name_them_and_stand_at_the_place_that_is_safe_for_all() {
    let mut feed = with_two_tables();
    assert!(feed.is_accepted());
    let catching_up = r#"{"type":"tx","position":"0/20","id":"tail-1","xid":1,"ts":"","changes":[{"id":"tail-1","seq":0,"op":"truncate"}]}"#;
    let lines = receive(&mut feed, catching_up);
    assert_eq!(
        line(&lines[0])["position"],
        "0/10",
        "the other one is not further"
    );
    assert_eq!(line(&lines[0])["table"], "orders");
    for id in ["tail-1", "tail-2"] {
        receive(
            &mut feed,
            &format!(r#"{{"type":"live","id":"{id}","position":"0/20"}}"#),
        );
    }
    let both = r#"{"type":"tx","position":"0/30","xid":2,"ts":"","changes":[{"id":"tail-2","seq":1,"op":"truncate"},{"id":"tail-1","seq":4,"op":"truncate"}]}"#;
    let lines = receive(&mut feed, both);
    let places = lines.iter().map(line).map(|line| line["position"].clone());
    assert_eq!(places.collect::<Vec<_>>(), ["0/30:1", "0/30"]);
    let messages = feed.subscribe();
    assert!(
        messages
            .iter()
            .all(|message| message.contains(r#""from":"0/30""#)),
        "{messages:?}"
    );
    assert!(!feed.is_accepted(), "not on the new connection");
}

#[test]
fn a_server_that_cannot_answer_now_is_asked_again_and_any_other_refusal_is_the_end() {
    let mut feed = with_two_tables();
    let mut refuse = |code: &str| {
        let text =
            format!(r#"{{"type":"error","code":"{code}","message":"no","id":"tail-2","offset":null}}"#);
        feed.receive(&text, &mut Vec::new()).unwrap_err()
    };
    assert_eq!(
        refuse("internal"),
        Error::Unavailable("items: internal: no".into())
    );
    let Error::Refused(words) = refuse("unknown_table") else {
        panic!("not refused");
    };
    assert!(words.contains("walcast tables"), "{words}");
}

#[test]
fn a_refusal_points_at_the_place_in_the_predicate() {
    let mut feed = following(query(), Start::Now, None);
    let mut refuse = |offset: &str| {
        let text =
            format!(r#"{{"type":"error","code":"bad_predicate","message":"no","id":"tail-1"{offset}}}"#);
        feed.receive(&text, &mut Vec::new()).unwrap_err().to_string()
    };
    assert_eq!(refuse(""), "bad_predicate: no");
    assert_eq!(
        refuse(r#","offset":10"#),
        "bad_predicate: no\n  größe = 1 AND\n          ^"
    );
    assert_eq!(
        refuse(r#","offset":26"#),
        "bad_predicate: no\n   amount > x\n            ^"
    );
    // Beyond the text or inside a character: at its end.
    assert!(refuse(r#","offset":3"#).ends_with('^'));
    assert!(refuse(r#","offset":999"#).ends_with('^'));
}

#[test]
fn errors_that_are_not_about_the_subscription_are_told_and_survived() {
    let mut feed = following(query(), Start::Now, None);
    let text = r#"{"type":"error","code":"rate_limited","message":"slower","retry_after_ms":5}"#;
    assert_eq!(
        receive(&mut feed, text),
        [Output::Note("rate_limited: slower".into())]
    );
}

#[test]
fn messages_that_cannot_be_read_are_errors() {
    let mut feed = following(query(), Start::Now, None);
    for text in [
        "",
        "[]",
        r#"{"type":"tx"}"#,
        r#"{"type":"live","position":"x"}"#,
        r#"{"type":"tx","position":"0/1","xid":1,"ts":"","changes":[{"op":"insert"}]}"#,
    ] {
        let error = feed.receive(text, &mut Vec::new());
        assert!(matches!(error, Err(Error::Unreadable(_))), "{text}");
    }
}

#[test]
fn what_goes_on_goes_on_at_the_time_that_it_began() {
    let mut feed = following(
        Query {
            snapshot: true,
            ..query()
        },
        Start::Now,
        None,
    );
    let now = |feed: &Feed| subscribe(feed).get("now").cloned();
    assert_eq!(now(&feed), None);
    receive(&mut feed, HELLO);
    receive(
        &mut feed,
        r#"{"type":"subscribed","id":"tail-1","position":"0/1","key":[],"columns":[],"replica_identity":"full","now":"2024-01-31T10:00:00.000000Z","warnings":[]}"#,
    );
    assert_eq!(now(&feed), None, "its rows have not all come: they come anew");
    receive(&mut feed, r#"{"type":"live","id":"tail-1","position":"0/1"}"#);
    assert_eq!(now(&feed), Some(json!("2024-01-31T10:00:00.000000Z")));
}
