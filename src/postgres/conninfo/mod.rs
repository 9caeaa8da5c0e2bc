//! [`ConnInfo`]: where the database is and how to speak to it, as libpq's connection strings say it. Pure.
//!
//! The one thing to know: parameters mean what they mean to libpq (documentation: libpq, "Parameter Key Words"), and
//! one that we do not honour is an error, never ignored: half of them are about security.

mod parameters;
mod passfile;
mod syntax;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parameters::{Parameters, TARGET_SESSIONS};

/// A connection string that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnInfoError {
    /// It does not parse.
    #[error("cannot read the connection string: {0}")]
    Syntax(String),
    /// There is no such parameter.
    #[error("unknown connection parameter {0:?}")]
    UnknownParameter(String),
    /// A parameter of libpq's that walcast does not honour.
    #[error("the connection parameter {0} is not supported: leave it out")]
    Unsupported(String),
    /// A value that the parameter cannot have.
    #[error("bad value {value:?} of connection parameter {name}: expected {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values that it can have.
        expected: std::borrow::Cow<'static, str>,
    },
    /// Lists of hosts, addresses and ports that do not go together.
    #[error("{0} ports or addresses were given for {1} hosts")]
    Lists(usize, usize),
    /// Neither the string nor the environment names a user.
    #[error("no user name: write it into the connection string or set PGUSER")]
    NoUser,
}

/// The protection by TLS that is wanted (`sslmode`), with libpq's meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server refuses us without.
    Allow,
    /// If the server has it; without if that fails.
    Prefer,
    /// Always; the certificate is checked only if there is a root certificate to check it by.
    Require,
    /// Always, with a certificate that a root certificate vouches for.
    VerifyCa,
    /// As `VerifyCa`, and it must be for this host name.
    VerifyFull,
}

/// The kind of server that is accepted from the list (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSession {
    /// Any that lets us in.
    Any,
    /// A server that is no standby and whose transactions are not read-only by default.
    ReadWrite,
    /// The opposite of `ReadWrite`.
    ReadOnly,
    /// A server that is no standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or any if none is.
    PreferStandby,
}

/// The binding of the login to the TLS channel that it runs in (`channel_binding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If the server offers it.
    Prefer,
    /// Always: a server that cannot is refused.
    Require,
}

/// The source of root certificates (`sslrootcert`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// This file, which must exist for the verifying modes.
    File(PathBuf),
    /// The operating system's store (`system`).
    System,
}

/// A secret that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The secret itself.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A server that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A host name or address, or the directory of a unix socket (starts with `/`, or with `@` if abstract).
    pub name: String,
    /// The address to connect to instead of asking the name service (`hostaddr`). The certificate must still be for
    /// `name`.
    pub address: Option<IpAddr>,
    /// The port; for a unix socket the number in its name.
    pub port: u16,
}

impl Host {
    /// True if it is reached by a unix socket.
    pub fn is_unix(&self) -> bool {
        self.address.is_none() && self.name.starts_with(['/', '@'])
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// TLS, as the `ssl…` parameters ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    /// The protection that is wanted.
    pub mode: SslMode,
    /// The source of root certificates; `~/.postgresql/root.crt` unless said otherwise.
    pub root_cert: Option<RootCert>,
    /// The client's certificate; `~/.postgresql/postgresql.crt`, if it exists, unless said otherwise.
    pub cert: Option<PathBuf>,
    /// The client certificate's key; `~/.postgresql/postgresql.key` unless said otherwise.
    pub key: Option<PathBuf>,
    /// True if TLS starts at once, without asking first (`sslnegotiation=direct`; needs Postgres 17).
    pub direct: bool,
    /// The binding of the login to the TLS channel.
    pub channel_binding: ChannelBinding,
}

/// TCP's own watch over a silent connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalives {
    /// True if it is off (`keepalives=0`).
    pub disabled: bool,
    /// The time that a connection is silent before it is probed; the system's default if `None`.
    pub idle: Option<Duration>,
    /// The time between probes; the system's default if `None`.
    pub interval: Option<Duration>,
    /// The number of unanswered probes that end the connection; the system's default if `None`.
    pub count: Option<u32>,
    /// The time that sent data may go unacknowledged (`tcp_user_timeout`); the system's default if `None`.
    pub user_timeout: Option<Duration>,
}

/// The setting that all sessions have in common, as one of them found it: `lc_monetary`, which prints values of
/// `money`. It is the role's, the database's or the server's own, and may be changed while sessions run.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedMonetary(Arc<OnceLock<String>>);

impl SharedMonetary {
    pub(super) fn lc_monetary(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Takes what a session found, unless another was before it; and what holds.
    pub(super) fn agree(&self, lc_monetary: &str) -> &str {
        self.0.get_or_init(|| lc_monetary.to_owned())
    }
}

/// It is no part of what was asked for.
impl PartialEq for SharedMonetary {
    fn eq(&self, _: &SharedMonetary) -> bool {
        true
    }
}

impl Eq for SharedMonetary {}

/// The address of a database, with what a session needs to log in. `Debug` and `Display` do not show the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The password, if it was given.
    pub password: Option<Password>,
    /// The file in which passwords are looked up otherwise.
    pub passfile: Option<PathBuf>,
    /// TLS.
    pub ssl: Ssl,
    /// The time that one host may take until the session is ready; `None` for as long as it likes. 10 s unless said
    /// otherwise.
    pub connect_timeout: Option<Duration>,
    /// The name that `pg_stat_activity` shows.
    pub application_name: String,
    /// Further settings of the session, as `-c name=value`.
    pub options: Option<String>,
    /// The kind of server that is accepted.
    pub target_session: TargetSession,
    /// TCP's own watch over a silent connection.
    pub keepalives: Keepalives,
    /// Shared with all clones of it.
    pub(super) shared_monetary: SharedMonetary,
}

/// The directory in which Debian's servers, and its libpq, have their unix socket.
const DEFAULT_HOST: &str = "/var/run/postgresql";

impl ConnInfo {
    /// Reads a connection string, a URL or `name=value` pairs. What it leaves open comes from libpq's environment
    /// variables (`PGHOST` and so on), then from libpq's defaults.
    pub fn parse(text: &str) -> Result<ConnInfo, ConnInfoError> {
        ConnInfo::parse_with(text, |name| std::env::var(name).ok())
    }

    /// As [`ConnInfo::parse`], with the environment as an argument.
    pub fn parse_with(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<ConnInfo, ConnInfoError> {
        let parsed = ConnInfo::parse_as_written(text, environment);
        // The error would repeat a part of the password.
        parsed.map_err(|error| {
            if syntax::may_hide_a_password(text) {
                ConnInfoError::Syntax(
                    "write the characters of user and password that have a meaning in a URL by their codes: / as %2F, @ as \
                     %40, ? as %3F, % as %25"
                        .into(),
                )
            } else {
                error
            }
        })
    }

    fn parse_as_written(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<ConnInfo, ConnInfoError> {
        let mut given = Parameters::read(text, &environment)?;
        let home = environment("HOME").map(PathBuf::from);
        let in_home = |file: &str| home.as_ref().map(|home| home.join(file));
        let login = || environment("USER").or_else(|| environment("LOGNAME"));
        let user = given.take("user").or_else(login).ok_or(ConnInfoError::NoUser)?;
        Ok(ConnInfo {
            hosts: given.hosts()?,
            database: given.take("dbname").unwrap_or_else(|| user.clone()),
            user,
            password: given.take("password").map(Password),
            passfile: given.path("passfile").or_else(|| in_home(".pgpass")),
            ssl: given.ssl(in_home)?,
            connect_timeout: given.connect_timeout()?,
            application_name: given
                .take("application_name")
                .or_else(|| given.take("fallback_application_name"))
                .unwrap_or_else(|| "walcast".into()),
            options: given.take("options"),
            target_session: given
                .choose("target_session_attrs", &TARGET_SESSIONS)?
                .unwrap_or(TargetSession::Any),
            keepalives: given.keepalives()?,
            shared_monetary: SharedMonetary::default(),
        })
    }

    /// The same, with sessions that print values as those of another do.
    #[must_use]
    pub fn agreeing_with(self, other: &ConnInfo) -> ConnInfo {
        ConnInfo {
            shared_monetary: other.shared_monetary.clone(),
            ..self
        }
    }

    /// The password for `host`: the one given, or the one that the text of the password file has for it.
    pub(super) fn password_for(&self, host: &Host, passfile: Option<&str>) -> Option<String> {
        let given = self
            .password
            .as_ref()
            .map(|password| password.expose().to_owned());
        // The default socket goes by the name of the machine it is on.
        let name = if host.name == DEFAULT_HOST {
            "localhost"
        } else {
            &host.name
        };
        given.or_else(|| passfile::lookup(passfile?, name, host.port, &self.database, &self.user))
    }
}

impl FromStr for ConnInfo {
    type Err = ConnInfoError;

    fn from_str(text: &str) -> Result<ConnInfo, ConnInfoError> {
        ConnInfo::parse(text)
    }
}

impl fmt::Display for ConnInfo {
    /// Prints whom we speak to, for people: `user@host:port/database`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        write!(f, "{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}
