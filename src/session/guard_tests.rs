use super::*;

const LIMITS: Limits = Limits {
    max_subscriptions: 2,
    ping_interval: Duration::from_secs(20),
    pong_timeout: Duration::from_secs(45),
    messages: Rate {
        per_second: 10,
        burst: 1000,
    },
    subscribes: Rate {
        per_second: 1,
        burst: 20,
    },
};

fn guard() -> (Guard, Instant) {
    let now = Instant::now();
    (Guard::new(LIMITS, false, now), now)
}

/// The request in a message that comes at the start.
fn text(guard: &mut Guard, text: &str) -> Request {
    let now = guard.heard;
    guard.text(text, false, now)
}

fn code(request: Request) -> Option<ErrorCode> {
    match request {
        Request::Refuse(error) | Request::Close(error, ..) => Some(error.code),
        _ => None,
    }
}

#[test]
fn an_id_is_taken_until_it_is_unsubscribed() {
    let (mut guard, _) = guard();
    let subscribe = r#"{"type":"subscribe","id":"a","table":"t"}"#;
    let unsubscribe = r#"{"type":"unsubscribe","id":"a"}"#;
    let Request::Subscribe(id, _) = text(&mut guard, subscribe) else {
        panic!("refused")
    };
    assert!(guard.ids().holds(&id));
    assert_eq!(code(text(&mut guard, subscribe)), Some(ErrorCode::DuplicateId));
    assert!(matches!(text(&mut guard, unsubscribe), Request::Unsubscribe(freed) if Arc::ptr_eq(&freed, &id)));
    // Until the client is told, messages of it may come.
    assert!(!guard.ids().holds(&id));
    for again in [subscribe, unsubscribe] {
        let Request::Refuse(error) = text(&mut guard, again) else {
            panic!("not refused")
        };
        assert_eq!(
            error.id, None,
            "it would end the subscription that is being ended: {error}"
        );
    }
    guard.free(&id);
    assert_eq!(code(text(&mut guard, unsubscribe)), Some(ErrorCode::UnknownId));
    // The same name again is another subscription.
    assert!(matches!(text(&mut guard, subscribe), Request::Subscribe(again, _) if !Arc::ptr_eq(&again, &id)));
    assert!(!guard.ids().holds(&id));
}

#[test]
fn a_subscription_that_is_revoked_holds_its_id_until_the_client_is_told() {
    let (mut guard, _) = guard();
    let subscribe = r#"{"type":"subscribe","id":"a","table":"t"}"#;
    let Request::Subscribe(id, _) = text(&mut guard, subscribe) else {
        panic!("refused")
    };
    guard.revoke(&id);
    assert!(!guard.ids().holds(&id));
    assert_eq!(code(text(&mut guard, subscribe)), Some(ErrorCode::DuplicateId));
    guard.free(&id);
    assert!(matches!(text(&mut guard, subscribe), Request::Subscribe(..)));
}

#[test]
fn a_token_is_taken_where_tokens_are_asked_for() {
    let auth = r#"{"type":"auth","token":"x"}"#;
    let (mut guard, start) = guard();
    assert_eq!(code(text(&mut guard, auth)), Some(ErrorCode::BadRequest));
    let mut guard = Guard::new(LIMITS, true, start);
    assert!(matches!(text(&mut guard, auth), Request::Auth(token) if token.reveal() == "x"));
}

#[test]
fn subscriptions_are_limited() {
    let (mut guard, _) = guard();
    for id in 0..2 {
        text(
            &mut guard,
            &format!(r#"{{"type":"subscribe","id":"{id}","table":"t"}}"#),
        );
    }
    let one_more = text(&mut guard, r#"{"type":"subscribe","id":"x","table":"t"}"#);
    assert_eq!(code(one_more), Some(ErrorCode::LimitExceeded));
}

#[test]
fn twenty_bad_requests_in_a_row_close_and_a_good_one_forgives() {
    let (mut guard, start) = guard();
    for _ in 0..19 {
        assert!(matches!(text(&mut guard, "nonsense"), Request::Refuse(_)));
    }
    assert!(matches!(
        text(&mut guard, r#"{"type":"ping","ref":1}"#),
        Request::Reply(_)
    ));
    for _ in 0..19 {
        assert!(matches!(guard.binary(1, false, start), Request::Refuse(_)));
    }
    assert!(matches!(
        text(&mut guard, "nonsense"),
        Request::Close(_, CloseCode::BadRequests)
    ));
}

#[test]
fn a_silent_client_is_pinged_once_and_then_given_up() {
    let (mut guard, start) = guard();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(guard.due(at(19)), Due::Nothing);
    assert_eq!(guard.due(at(20)), Due::Ping);
    assert_eq!(guard.due(at(30)), Due::Nothing);
    guard.heard(at(31));
    assert_eq!(guard.due(at(50)), Due::Nothing);
    // The ping was late, which is not the client's fault.
    assert_eq!(guard.due(at(80)), Due::Ping);
    assert_eq!(guard.due(at(104)), Due::Nothing);
    assert_eq!(guard.due(at(105)), Due::Silence);
}

/// The id, the limit and the time to wait of a message that is refused for its rate.
fn limited(request: Request) -> Option<(Option<String>, &'static str, u64)> {
    match request {
        Request::Refuse(error) | Request::Close(error, _) => match error.detail {
            Some(Detail::RetryAfter { limit, ms }) => Some((error.id, limit, ms)),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn a_ping_that_comes_too_early_is_refused_under_its_ref() {
    let (mut guard, now) = guard();
    let ping = r#"{"type":"ping","ref":[1],"reach":"0/1"}"#;
    let refused = (0..2000).find_map(|_| match guard.text(ping, false, now) {
        Request::Reach(..) => None,
        other => Some(other),
    });
    let Some(Request::Refuse(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code, ErrorCode::RateLimited);
    assert_eq!(
        error.reference.map(|reference| reference.to_string()).as_deref(),
        Some("[1]")
    );
}

const PING: &str = r#"{"type":"ping","ref":1}"#;

#[test]
fn a_client_that_ignores_the_warnings_is_closed() {
    let (mut guard, start) = guard();
    for _ in 0..1000 {
        guard.text(PING, false, start);
    }
    for _ in 0..100 {
        assert!(matches!(guard.text(PING, false, start), Request::Refuse(_)));
    }
    assert!(matches!(
        guard.text(PING, false, start),
        Request::Close(error, CloseCode::RateLimited) if error.code == ErrorCode::RateLimited
    ));
    // A client that is too fast now and then is not closed.
    let later = start + Duration::from_secs(3600);
    for second in 0..1000 {
        let now = later + Duration::from_secs(second);
        while !matches!(guard.text(PING, false, now), Request::Refuse(_)) {}
    }
}

#[test]
fn a_refused_request_counts_as_several() {
    let (mut guard, start) = guard();
    for _ in 0..995 {
        assert!(matches!(guard.text(PING, false, start), Request::Reply(_)));
    }
    let unknown = r#"{"type":"unsubscribe","id":"nobody"}"#;
    assert_eq!(
        code(guard.text(unknown, false, start)),
        Some(ErrorCode::UnknownId)
    );
    assert!(limited(guard.text(PING, false, start)).is_some());
}

#[test]
fn the_refusal_of_a_subscribe_beyond_the_rate_names_a_subscription_that_is_not_there_yet() {
    let (mut guard, start) = guard();
    let subscribe = |id: &str| format!(r#"{{"type":"subscribe","id":"{id}","table":"t"}}"#);
    for number in 0..20 {
        let id = format!("{number}");
        if let Request::Subscribe(id, _) = guard.text(&subscribe(&id), false, start)
            && number < 19
        {
            guard.free(&id);
        }
    }
    let refused = limited(guard.text(&subscribe("new"), false, start));
    assert_eq!(refused, Some((Some("new".to_owned()), "subscribes", 1001)));
    // An error with its id would end the existing one.
    let refused = limited(guard.text(&subscribe("19"), false, start));
    assert_eq!(refused, Some((None, "subscribes", 1001)));
    assert!(matches!(guard.text(PING, false, start), Request::Reply(_)));
    let later = start + Duration::from_millis(1001);
    assert!(matches!(
        guard.text(&subscribe("new"), false, later),
        Request::Subscribe(..)
    ));
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let (mut guard, _) = guard();
    assert_eq!(
        code(text(&mut guard, r#"{"type":"auth","token":"x"}"#)),
        Some(ErrorCode::BadRequest)
    );
    let snapshot = r#"{"type":"subscribe","id":"a","table":null,"messages":"m","snapshot":true}"#;
    assert_eq!(code(text(&mut guard, snapshot)), Some(ErrorCode::BadRequest));
    assert!(guard.ids().used().is_empty());
}
