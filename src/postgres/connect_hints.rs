//! [`next_step`]: what to do about a server that does not let us in.

use std::io::ErrorKind;

use super::conninfo::ConnInfo;
use super::error::Error;
use crate::event::quote_identifier;

/// The cure for an error of [`Connection::connect`](super::Connection::connect), if more can be said than it says.
pub fn next_step(error: &Error, info: &ConnInfo) -> Option<String> {
    let ConnInfo { user, database, .. } = info;
    let role = quote_identifier(user);
    let named = quote_identifier(database);
    // The server's function tells apart what has one code; its words are in its own language.
    let routine = error.routine().unwrap_or_default();
    Some(match (error.sqlstate(), last_io(error)) {
        (Some("28000"), _) if routine == "InitializeSessionUserId" => format!(
            "make the role {user} by sql/setup.sql (if it is there: ALTER ROLE {role} LOGIN;), or name another: \
             postgresql://ROLE@…"
        ),
        (Some("28000"), _) if routine == "ClientAuthentication" => {
            format!("let {user} in by a line in the server's pg_hba.conf, then SELECT pg_reload_conf();")
        }
        (Some("28000"), _) => format!(
            "the server's pg_hba.conf has {user} prove in another way who it is (peer, ident, cert): do so, or change the \
             line there"
        ),
        (Some("28P01"), _) => {
            "give the role's password by PGPASSWORD or ~/.pgpass; \\password in psql sets it".into()
        }
        (Some("42501"), _) => format!("GRANT CONNECT ON DATABASE {named} TO {role};"),
        (Some("08P01"), _) => {
            "a pooler answers there, and does not take what a session begins with: name the server's own host and port. \
             (PgBouncer takes sessions for replication from version 1.23 on, `options` from 1.20 on.)"
                .into()
        }
        (Some("3D000"), _) => {
            format!("name another database than {database}: postgresql://…/DATABASE (psql -l lists them)")
        }
        (Some("53300"), _) => match routine {
            "InitializeSessionUserId" => {
                format!("the role has no more connections: ALTER ROLE {role} CONNECTION LIMIT -1;")
            }
            "CheckMyDatabase" => {
                format!("the database has no more connections: ALTER DATABASE {named} CONNECTION LIMIT -1;")
            }
            _ => "all connections are in use: end some, or raise max_connections".into(),
        },
        (Some("57P03"), _) => "the server is starting or stopping: try again".into(),
        (None, Some((doing, _))) if doing.starts_with("resolving") => {
            "the name service does not know the host: mend the host's name".into()
        }
        (None, Some((_, ErrorKind::ConnectionRefused | ErrorKind::NotFound))) => {
            "nothing listens there: start the server, or mend host and port (pg_isready asks it; listen_addresses and \
             port say where it listens)"
                .into()
        }
        (None, Some((_, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable))) => {
            "the host does not answer: look at the network, the firewall and the address".into()
        }
        _ => return None,
    })
}

/// The action on the last host that was tried, and the operating system's error.
fn last_io(error: &Error) -> Option<(&'static str, ErrorKind)> {
    match error {
        Error::Io { doing, source } => Some((doing, source.kind())),
        Error::Connect(attempts) => attempts.last().and_then(|attempt| last_io(&attempt.error)),
        _ => None,
    }
}
