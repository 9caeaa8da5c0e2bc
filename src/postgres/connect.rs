//! Getting a [`Connection`]: hosts in turn, TLS as `sslmode` wants it, login, and the session's settings.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustix::event::PollFlags;
use rustls::{ClientConfig, ClientConnection};
use socket2::{SockAddr, Socket};

use super::auth::{Login, Progress, Step};
use super::connection::Connection;
use super::conninfo::{ConnInfo, Host, SslMode, TargetSession};
use super::dial::open_socket;
use super::error::{Attempt, Error};
use super::link::{self, Deadline, Link};
use super::settings::Purpose;
use super::tls;
use super::wire::Message;
use crate::private_files::is_exposed;

/// The way in which a connection is protected, in the order in which an `sslmode` tries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    None,
    IfOffered,
    Required,
}

impl Connection {
    /// Opens a session with the first of the hosts that will have us and that `target_session_attrs` likes.
    ///
    /// As with libpq, a host that cannot be reached, or that is starting up, is passed over, and one that refuses the
    /// login ends the search: the others would refuse it as well.
    pub fn connect(info: &ConnInfo, purpose: Purpose) -> Result<Connection, Error> {
        let connector = Connector::new(info, purpose)?;
        let rounds: &[TargetSession] = match info.target_session {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            ref one => std::slice::from_ref(one),
        };
        let mut attempts = Vec::new();
        for &wanted in rounds {
            for host in &info.hosts {
                let error = match connector.connect_host(host, wanted) {
                    Ok(connection) => return Ok(connection),
                    Err(error) => error,
                };
                let last = !passes_over(&error);
                attempts.push(Attempt {
                    host: host.to_string(),
                    error,
                });
                if last {
                    return Err(Error::Connect(attempts));
                }
            }
        }
        Err(Error::Connect(attempts))
    }
}

/// True if the next host may do better.
fn passes_over(error: &Error) -> bool {
    match error {
        Error::Server(_) => error.cannot_connect_now(),
        Error::Io { .. } | Error::Timeout(_) | Error::Closed | Error::SessionAttributes(_) => true,
        _ => false,
    }
}

/// The state that all attempts have in common.
struct Connector<'a> {
    info: &'a ConnInfo,
    purpose: Purpose,
    /// `None` if TLS is out of the question.
    tls: Option<Arc<ClientConfig>>,
    passfile: Option<String>,
}

impl<'a> Connector<'a> {
    fn new(info: &'a ConnInfo, purpose: Purpose) -> Result<Connector<'a>, Error> {
        let needs_tls = info.ssl.mode != SslMode::Disable && info.hosts.iter().any(|host| !host.is_unix());
        let tls = needs_tls.then(|| tls::client_config(&info.ssl).map(Arc::new));
        Ok(Connector {
            info,
            purpose,
            tls: tls.transpose()?,
            passfile: if info.password.is_none() {
                read_passfile(info)
            } else {
                None
            },
        })
    }

    fn connect_host(&self, host: &Host, wanted: TargetSession) -> Result<Connection, Error> {
        let deadline = self.info.connect_timeout.map(|timeout| Instant::now() + timeout);
        let mut failure = None;
        for address in resolve(host)? {
            let connected = self
                .connect_address(host, &address, deadline)
                .and_then(|connection| check_session(connection, wanted));
            match connected {
                // What a server says tells more than an address that nobody answers at.
                Err(error) if passes_over(&error) => {
                    failure = failure.filter(|e| matches!(e, Error::Server(_))).or(Some(error))
                }
                done => return done,
            }
        }
        Err(failure.unwrap_or(Error::Io {
            doing: "resolving the host name",
            source: io::Error::new(io::ErrorKind::NotFound, "it has no addresses"),
        }))
    }

    /// Tries the ways that `sslmode` allows; a refused login is tried again the other way.
    fn connect_address(
        &self,
        host: &Host,
        address: &SockAddr,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        let (first, second) = match self.info.ssl.mode {
            _ if host.is_unix() => (Encryption::None, None),
            SslMode::Disable => (Encryption::None, None),
            SslMode::Allow => (Encryption::None, Some(Encryption::Required)),
            SslMode::Prefer => (Encryption::IfOffered, Some(Encryption::None)),
            _ => (Encryption::Required, None),
        };
        let (error, encrypted) = match self.start(host, address, first, deadline) {
            Ok(connection) => return Ok(connection),
            Err(failed) => failed,
        };
        let refused =
            matches!(error, Error::Tls(_)) || error.sqlstate().is_some_and(|code| code.starts_with("28"));
        match second {
            // Asking for TLS and being told there is none was already the second way.
            Some(second) if refused && (encrypted || first == Encryption::None) => self
                .start(host, address, second, deadline)
                // Of the two refusals the one under TLS says more.
                .map_err(|(other, _)| if first == Encryption::None { other } else { error }),
            _ => Err(error),
        }
    }

    /// Makes one attempt; in case of failure also whether TLS was involved.
    fn start(
        &self,
        host: &Host,
        address: &SockAddr,
        encryption: Encryption,
        deadline: Deadline,
    ) -> Result<Connection, (Error, bool)> {
        let socket = open_socket(address, &self.info.keepalives, deadline).map_err(|e| (e, false))?;
        let link = self.protect(socket, host, encryption, deadline).map_err(|e| {
            let encrypted = matches!(e, Error::Tls(_));
            (e, encrypted)
        })?;
        let encrypted = link.is_tls();
        self.log_in(Connection::new(link, address.clone()), host, deadline)
            .map_err(|e| (e, encrypted))
    }

    /// Asks for TLS, if it is wanted, and starts it, if it is to be had.
    fn protect(
        &self,
        socket: Socket,
        host: &Host,
        encryption: Encryption,
        deadline: Deadline,
    ) -> Result<Link, Error> {
        let Some(config) = self.tls.as_ref().filter(|_| encryption != Encryption::None) else {
            return Ok(Link::plain(socket));
        };
        let direct = self.info.ssl.direct;
        if !direct && !asks_for_tls(&socket, deadline)? {
            return match encryption {
                Encryption::Required => Err(Error::Tls(
                    "the server has none, but sslmode asks for it (ssl = on in postgresql.conf)".into(),
                )),
                _ => Ok(Link::plain(socket)),
            };
        }
        let name = tls::server_name(host, self.info.ssl.mode)?;
        let session = ClientConnection::new(config.clone(), name).map_err(|e| Error::Tls(e.to_string()))?;
        Link::tls(socket, session, deadline)
    }

    /// From the startup message to a session with the settings that it needs.
    fn log_in(
        &self,
        mut connection: Connection,
        host: &Host,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        let password = self.info.password_for(host, self.passfile.as_deref());
        let mut login = Login {
            user: &self.info.user,
            password: password.as_deref(),
            channel_binding: self.info.ssl.channel_binding,
            end_point: connection.link.with_certificate(crate::tls::end_point),
            progress: Progress::Start,
        };
        connection.send(&self.startup_message()?)?;
        loop {
            let message = connection.receive_until(deadline)?;
            match message.parse()? {
                Message::Authentication(demand) => {
                    if let Step::Send(answer) = login.answer(&demand)? {
                        connection.send(&answer)?;
                    }
                }
                Message::BackendKey { pid, secret } => connection.key = (pid, secret),
                Message::ReadyForQuery => break,
                Message::Error(error) => return Err(Error::Server(error)),
                Message::Irrelevant => {}
                _ => return Err(message.unexpected("the startup message").into()),
            }
        }
        connection.pin(self.purpose, deadline, &self.info.shared_monetary)?;
        Ok(connection)
    }

    fn startup_message(&self) -> Result<BytesMut, Error> {
        let info = self.info;
        let mut parameters = vec![
            ("user", info.user.as_str()),
            ("database", &info.database),
            ("application_name", &info.application_name),
            // What it says of a login that it refuses; all else is set once it is open, see `session`.
            ("client_encoding", "UTF8"),
        ];
        if self.purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        parameters.extend(info.options.as_deref().map(|options| ("options", options)));
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message)
            .map_err(Error::io("building the startup message"))?;
        Ok(message)
    }
}

/// The password file's text, if there is one that others cannot read.
fn read_passfile(info: &ConnInfo) -> Option<String> {
    let path = info.passfile.as_ref()?;
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    if is_exposed(&metadata) {
        tracing::warn!(
            event = "password_file_ignored", path = %path.display(),
            "password file ignored: others can read it; chmod 600"
        );
        return None;
    }
    fs::read_to_string(path).ok()
}

fn resolve(host: &Host) -> Result<Vec<SockAddr>, Error> {
    if let Some(address) = host.address {
        return Ok(vec![SocketAddr::new(address, host.port).into()]);
    }
    if host.is_unix() {
        let path = format!("{}/.s.PGSQL.{}", host.name, host.port);
        // An abstract socket's name starts with a zero byte.
        let path = match path.strip_prefix('@') {
            Some(name) => format!("\0{name}"),
            None => path,
        };
        let address = SockAddr::unix(path).map_err(Error::io("naming the unix socket"))?;
        return Ok(vec![address]);
    }
    let addresses = (host.name.as_str(), host.port).to_socket_addrs();
    let addresses = addresses.map_err(Error::io("resolving the host name"))?;
    Ok(addresses.map(SockAddr::from).collect())
}

/// Sends SSLRequest; whether the server agrees. Not a byte more than its answer is read: what follows in clear text
/// must never pass for something said under TLS.
fn asks_for_tls(mut socket: &Socket, deadline: Deadline) -> Result<bool, Error> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let asking = Error::io("asking for TLS");
    // Eight bytes into an empty send buffer: they go at once.
    io::Write::write_all(&mut socket, &request).map_err(&asking)?;
    let mut answer = [0];
    loop {
        match socket.read(&mut answer) {
            Ok(0) => return Err(Error::Closed),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if !link::wait(socket, PollFlags::IN, deadline).map_err(&asking)? {
                    return Err(Error::Timeout("asking for TLS"));
                }
            }
            Err(e) => return Err(asking(e)),
        }
    }
    match &answer {
        b"S" => Ok(true),
        b"N" => Ok(false),
        _ => Err(Error::Tls(
            "the server answers neither yes nor no: is this a Postgres server?".into(),
        )),
    }
}

/// True if the session is of the kind that `target_session_attrs` asks for.
fn check_session(mut connection: Connection, wanted: TargetSession) -> Result<Connection, Error> {
    if wanted == TargetSession::Any {
        return Ok(connection);
    }
    let standby = is_on(
        &mut connection,
        "in_hot_standby",
        "SELECT pg_catalog.pg_is_in_recovery()",
    )?;
    let read_only = || {
        let sql = "SELECT pg_catalog.current_setting('default_transaction_read_only')";
        Ok::<_, Error>(standby || is_on(&mut connection, "default_transaction_read_only", sql)?)
    };
    let mut read_only = read_only;
    let (fits, name) = match wanted {
        TargetSession::ReadWrite => (!read_only()?, "read-write"),
        TargetSession::ReadOnly => (read_only()?, "read-only"),
        TargetSession::Primary => (!standby, "of a primary"),
        TargetSession::Standby | TargetSession::PreferStandby => (standby, "of a standby"),
        TargetSession::Any => (true, "any"),
    };
    if fits {
        Ok(connection)
    } else {
        connection.close();
        Err(Error::SessionAttributes(name))
    }
}

/// A setting that the server reports since version 14; a pooler in between may keep it to itself.
fn is_on(connection: &mut Connection, parameter: &str, sql: &str) -> Result<bool, Error> {
    if let Some(value) = connection.parameter(parameter) {
        return Ok(value == "on");
    }
    let row = connection.query_one("target_session_attrs", sql)?;
    Ok(matches!(row.get(0), Some("t" | "on")))
}
