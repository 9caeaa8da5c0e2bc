//! Hosts, passwords and who is let in.

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
