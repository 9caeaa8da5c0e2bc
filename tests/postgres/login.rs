//! Hosts, passwords and who is let in.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use walcast::postgres::*;

use crate::{info, shared};

fn sqlstate(result: Result<Connection, Error>) -> Option<String> {
    result.unwrap_err().sqlstate().map(str::to_owned)
}

#[test]
fn passwords_are_proved_in_each_of_the_servers_ways() {
    let cluster = &*shared();
    cluster.psql(
        "CREATE ROLE by_password LOGIN PASSWORD 's3cret'; CREATE ROLE by_scram LOGIN PASSWORD 's3cret';
         SET password_encryption = md5; CREATE ROLE by_md5 LOGIN PASSWORD 's3cret'",
    );
    let port = cluster.port();
    let login = |role: &str, password: &str| {
        let url = format!("postgresql://{role}:{password}@127.0.0.1:{port}/postgres");
        Connection::connect(&info(&url), Purpose::Application)
    };
    for role in ["by_password", "by_md5", "by_scram"] {
        let rows = login(role, "s3cret")
            .unwrap()
            .query("SELECT current_user")
            .unwrap();
        assert_eq!(rows[0].get(0), Some(role));
        assert_eq!(sqlstate(login(role, "wrong")).as_deref(), Some("28P01"), "{role}");
        let missing = login(role, "").unwrap_err();
        assert!(missing.to_string().contains("PGPASSWORD"), "{missing}");
    }
    let bound = format!("postgresql://by_scram:s3cret@127.0.0.1:{port}/postgres?channel_binding=require");
    let error = Connection::connect(&info(&bound), Purpose::Application).unwrap_err();
    assert!(error.to_string().contains("channel_binding"), "{error}");
}

#[test]
fn the_password_file_is_used_unless_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = &*shared();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pass");
    std::fs::write(
        &path,
        format!("127.0.0.1:{}:*:by_password:file\n", cluster.port()),
    )
    .unwrap();
    let url = format!(
        "postgresql://by_password@127.0.0.1:{}/postgres?passfile={}",
        cluster.port(),
        path.display()
    );
    let attempt = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Connection::connect(&info(&url), Purpose::Application).unwrap_err()
    };
    assert_eq!(
        attempt(0o600).sqlstate(),
        Some("28P01"),
        "the wrong password was tried"
    );
    let error = attempt(0o604);
    assert!(
        matches!(&error, Error::Connect(a) if matches!(a[0].error, Error::Auth(_))),
        "{error:?}"
    );
}

#[test]
fn hosts_are_tried_in_turn_until_one_refuses_the_login() {
    let cluster = &*shared();
    let port = cluster.port();
    let directory = cluster.socket_directory().display().to_string();
    let dead = "hostaddr=127.0.0.1,,127.0.0.1 connect_timeout=2";
    let url = format!("host=dead,{directory},127.0.0.1 {dead} port=1,{port},{port} user=postgres");
    assert!(Connection::connect(&info(&url), Purpose::Application).is_ok());
    let url = format!("host=127.0.0.1,{directory} port={port} user=by_none dbname=postgres");
    assert_eq!(
        sqlstate(Connection::connect(&info(&url), Purpose::Application)).as_deref(),
        Some("28000")
    );
    let url = format!("host={directory},127.0.0.1 port=1 user=postgres");
    let error = Connection::connect(&info(&url), Purpose::Application).unwrap_err();
    assert!(
        matches!(&error, Error::Connect(attempts) if attempts.len() == 2),
        "{error}"
    );
    let kind = |attributes: &str| {
        let url = format!("{}?target_session_attrs={attributes}", cluster.url("postgres"));
        Connection::connect(&info(&url), Purpose::Application)
    };
    for attributes in ["any", "primary", "read-write", "prefer-standby"] {
        assert!(kind(attributes).is_ok(), "{attributes}");
    }
    for attributes in ["standby", "read-only"] {
        assert!(
            kind(attributes)
                .unwrap_err()
                .to_string()
                .contains("target_session_attrs")
        );
    }
}

#[test]
fn a_server_that_never_comes_to_the_point_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        // The startup message, and "AuthenticationOk".
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
        socket.read_exact(&mut rest).unwrap();
        socket.write_all(b"R\0\0\0\x08\0\0\0\0").unwrap();
        let mut sent = 0_u64;
        loop {
            let reported = format!("setting_{sent:020}\0{}\0", "x".repeat(1000));
            let length = u32::try_from(reported.len() + 4).unwrap();
            let message = [b"S", &length.to_be_bytes()[..], reported.as_bytes()].concat();
            if socket.write_all(&message).is_err() {
                return sent;
            }
            sent += 1;
        }
    });
    let before = resident_bytes();
    let url = format!("host=127.0.0.1 port={port} user=u sslmode=disable connect_timeout=2");
    let began = Instant::now();
    let error = Connection::connect(&info(&url), Purpose::Query).unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(server.join().unwrap() > 1_000);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "it took {grown} bytes");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
