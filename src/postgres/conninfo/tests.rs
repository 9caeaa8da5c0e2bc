use proptest::prelude::*;

use super::*;

fn environment(name: &str) -> Option<String> {
    [("HOME", "/home/ann"), ("USER", "ann")]
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| (*value).to_owned())
}

fn parse(text: &str) -> Result<ConnInfo, ConnInfoError> {
    ConnInfo::parse_with(text, environment)
}

fn host(name: &str, port: u16) -> Host {
    Host {
        name: name.into(),
        address: None,
        port,
    }
}

#[test]
fn both_spellings_name_the_same_servers() {
    let cases = [
        ("", vec![host("/var/run/postgresql", 5432)]),
        ("postgresql://", vec![host("/var/run/postgresql", 5432)]),
        ("postgres://db", vec![host("db", 5432)]),
        ("postgresql://db:6432/x", vec![host("db", 6432)]),
        ("host=db port=6432", vec![host("db", 6432)]),
        ("postgresql://[::1]:5433/x", vec![host("::1", 5433)]),
        ("postgresql://[::1]", vec![host("::1", 5432)]),
        ("postgresql://%2Ftmp%2Fx:5433/d", vec![host("/tmp/x", 5433)]),
        (
            "postgresql:///d?host=/tmp/x&port=5433",
            vec![host("/tmp/x", 5433)],
        ),
        (
            "postgresql://a:1,b,[::2]:3/d",
            vec![host("a", 1), host("b", 5432), host("::2", 3)],
        ),
        ("host=a,b port=7", vec![host("a", 7), host("b", 7)]),
        ("host=a,b port=7,8", vec![host("a", 7), host("b", 8)]),
        ("host = a,, port=,8,", {
            vec![
                host("a", 5432),
                host("/var/run/postgresql", 8),
                host("/var/run/postgresql", 5432),
            ]
        }),
    ];
    for (text, hosts) in cases {
        assert_eq!(parse(text).map(|info| info.hosts), Ok(hosts), "{text}");
    }
}

#[test]
fn user_password_and_database_are_decoded() {
    let cases = [
        (
            "postgresql://bob:p%40ss%2F@h/db%20x",
            "bob",
            Some("p@ss/"),
            "db x",
        ),
        ("postgresql://bob:p@ss@h", "bob", Some("p@ss"), "bob"),
        (
            "postgresql://h/d?user=bob&password=a%26b",
            "bob",
            Some("a&b"),
            "d",
        ),
        (
            r"user=bob password='it\'s \\' dbname = d",
            "bob",
            Some(r"it's \"),
            "d",
        ),
        (r"password=a\ b", "ann", Some("a b"), "ann"),
        ("dbname='' user=bob", "bob", None, "bob"),
    ];
    for (text, user, password, database) in cases {
        let info = parse(text).unwrap();
        let given = info.password.as_ref().map(Password::expose);
        assert_eq!(
            (info.user.as_str(), given, info.database.as_str()),
            (user, password, database),
            "{text}"
        );
    }
}

#[test]
fn parameters_have_libpqs_meaning() {
    let info = parse(
        "hostaddr=127.0.0.1 host=db sslmode=verify-ca sslrootcert=/r sslcert=/c sslkey=/k connect_timeout=3 \
         application_name=x options='-c a=b' target_session_attrs=primary keepalives_idle=60 keepalives_count=0 \
         tcp_user_timeout=1500 channel_binding=require gssencmode=prefer",
    )
    .unwrap();
    assert_eq!(
        info.hosts.first().and_then(|h| h.address),
        "127.0.0.1".parse().ok()
    );
    assert_eq!(
        info.ssl,
        Ssl {
            mode: SslMode::VerifyCa,
            root_cert: Some(RootCert::File("/r".into())),
            cert: Some("/c".into()),
            key: Some("/k".into()),
            direct: false,
            channel_binding: ChannelBinding::Require,
        }
    );
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(
        (info.application_name.as_str(), info.options.as_deref()),
        ("x", Some("-c a=b"))
    );
    assert_eq!(info.target_session, TargetSession::Primary);
    let keepalives = Keepalives {
        idle: Some(Duration::from_secs(60)),
        user_timeout: Some(Duration::from_millis(1500)),
        ..Keepalives::default()
    };
    assert_eq!(info.keepalives, keepalives);
}

#[test]
fn defaults_are_libpqs_except_for_a_bounded_connect() {
    let info = parse("host=db").unwrap();
    assert_eq!(info.ssl.mode, SslMode::Prefer);
    assert_eq!(
        info.ssl.root_cert,
        Some(RootCert::File("/home/ann/.postgresql/root.crt".into()))
    );
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(parse("connect_timeout=0").unwrap().connect_timeout, None);
    assert_eq!(info.passfile, Some("/home/ann/.pgpass".into()));
    assert_eq!(parse("sslrootcert=system").unwrap().ssl.mode, SslMode::VerifyFull);
    assert_eq!(
        parse("postgresql://h/?ssl=true").unwrap().ssl.mode,
        SslMode::Require
    );
}

#[test]
fn the_environment_fills_what_the_string_leaves_open() {
    let environment = |name: &str| {
        let value = match name {
            "PGHOST" => "h1,h2",
            "PGPORT" => "1,2",
            "PGUSER" => "eve",
            "PGDATABASE" => "d",
            "PGPASSWORD" => "secret",
            "PGSSLMODE" => "require",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let info = ConnInfo::parse_with("dbname=other", environment).unwrap();
    assert_eq!(info.to_string(), "eve@h1:1,h2:2/other");
    assert_eq!((info.ssl.mode, info.passfile), (SslMode::Require, None));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let unknown = |name: &str| ConnInfoError::UnknownParameter(name.into());
    assert_eq!(parse("postgresql://h/d?shlmode=require"), Err(unknown("shlmode")));
    assert_eq!(parse("hots=h"), Err(unknown("hots")));
    assert_eq!(
        parse("sslcrl=/x"),
        Err(ConnInfoError::Unsupported("sslcrl".into()))
    );
    assert_eq!(
        parse("gssencmode=require"),
        Err(ConnInfoError::Unsupported("gssencmode".into()))
    );
    assert_eq!(parse("host=a,b port=1,2,3"), Err(ConnInfoError::Lists(3, 2)));
    assert_eq!(
        ConnInfo::parse_with("host=a", |_| None),
        Err(ConnInfoError::NoUser)
    );
    let values = [
        "sslmode=on",
        "port=0",
        "port=65536",
        "port=x",
        "hostaddr=localhost",
        "connect_timeout=soon",
        "sslmode=require sslrootcert=system",
        "sslnegotiation=direct",
        "client_encoding=LATIN1",
    ];
    for text in values {
        assert!(matches!(parse(text), Err(ConnInfoError::Value { .. })), "{text}");
    }
    let texts = [
        "host",
        "=x",
        "a b=c",
        "password='open",
        "postgresql://h/d?x",
        "postgresql://[::1",
        "postgresql://[::1]x",
    ];
    for text in texts.iter().chain(&[
        "postgresql://a%zz@h",
        "postgresql://a%00@h",
        "postgresql://%ff",
        "postgresql://%4",
    ]) {
        assert!(matches!(parse(text), Err(ConnInfoError::Syntax(_))), "{text}");
    }
}

#[test]
fn no_output_shows_the_password() {
    let info = parse("postgresql://bob:hunter2@db/d").unwrap();
    assert!(!format!("{info:?} {info}").contains("hunter2"));
    for url in [
        "postgresql://bob:hunter2%zz@db/d",
        "postgresql://bob:hunter2/x@db/d",
        "postgresql://bob:a/hunter2@db:x/d",
        "postgresql://bob:123/hunter2@db/d",
        "postgresql://bob:a/b?hunter2@db/d",
        "postgresql://bob:a/b?hunter2=x@db/d",
        "postgresql://bob:[hunter2/@db/d",
        "postgresql://bob@db/d?hunter2",
    ] {
        let error = parse(url).unwrap_err();
        assert!(
            !format!("{error:?} {error}").contains("hunter2"),
            "{url}: {error}"
        );
    }
    // As libpq reads it.
    let info = parse("postgresql://bob:a?hunter2@db/d").unwrap();
    assert_eq!(info.to_string(), "bob@db:5432/d");
    assert_eq!(info.password.as_ref().map(Password::expose), Some("a?hunter2"));
    let info = parse("postgresql://bob@db?application_name=a@b").unwrap();
    assert_eq!(
        (info.user.as_str(), info.application_name.as_str()),
        ("bob", "a@b")
    );
}

proptest! {
    #[test]
    fn no_text_panics_the_parser(text in ".*", rest in "[a-z=@:/?%,' \\\\\\[\\]]*") {
        drop(parse(&text));
        drop(parse(&format!("postgresql://{text}")));
        drop(parse(&format!("postgresql://{rest}")));
        drop(parse(&rest));
    }

    #[test]
    fn any_quoted_value_reads_back(value in ".+") {
        let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
        let info = parse(&format!("application_name='{quoted}' user=u")).unwrap();
        prop_assert_eq!(info.application_name, value);
    }
}
