//! The parameters of a connection string: which there are, which we honour, and what their values mean.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    ChannelBinding, ConnInfoError, DEFAULT_HOST, Host, Keepalives, RootCert, Ssl, SslMode, TargetSession,
    syntax,
};

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const SSL_MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

pub(super) const TARGET_SESSIONS: [(&str, TargetSession); 6] = [
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

const CHANNEL_BINDINGS: [(&str, ChannelBinding); 3] = [
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

/// The parameters that are honoured, each with the environment variable that gives its default.
const PARAMETERS: [(&str, &str); 24] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
    ("fallback_application_name", ""),
    ("options", "PGOPTIONS"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("keepalives", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("keepalives_count", ""),
    ("tcp_user_timeout", ""),
    ("client_encoding", "PGCLIENTENCODING"),
];

/// Parameters of libpq's that we do not honour, each with the values that ask for nothing.
const UNSUPPORTED: [(&str, &[&str]); 15] = [
    ("gssencmode", &["disable", "prefer"]),
    ("gssdelegation", &["0"]),
    ("gsslib", &[]),
    ("krbsrvname", &["postgres"]),
    ("load_balance_hosts", &["disable"]),
    ("replication", &["database"]),
    ("require_auth", &[]),
    ("requirepeer", &[]),
    ("requiressl", &[]),
    ("service", &[]),
    ("sslcompression", &["0"]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
    ("sslpassword", &[]),
    ("sslsni", &["1"]),
];

/// The parameters as given, taken one by one.
pub(super) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// Reads string and environment. Empty values count as absent, as they do to libpq.
    pub(super) fn read(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Parameters, ConnInfoError> {
        let defaults = PARAMETERS.iter().filter(|(_, variable)| !variable.is_empty());
        let mut values: BTreeMap<&'static str, String> = defaults
            .filter_map(|(name, variable)| Some((*name, environment(variable)?)))
            .collect();
        for (name, value) in syntax::parse(text)? {
            let known = PARAMETERS.iter().find(|(known, _)| *known == name);
            match (known, UNSUPPORTED.iter().find(|(known, _)| *known == name)) {
                (Some((known, _)), _) => {
                    values.insert(known, value);
                }
                (None, Some((_, harmless))) if harmless.contains(&value.as_str()) => {}
                (None, Some(_)) => return Err(ConnInfoError::Unsupported(name)),
                (None, None) => return Err(ConnInfoError::UnknownParameter(name)),
            }
        }
        values.retain(|_, value| !value.is_empty());
        let mut given = Parameters(values);
        // The session's encoding is ours to choose; these two spellings ask for what it is.
        given.choose(
            "client_encoding",
            &[("UTF8", ()), ("utf8", ()), ("UTF-8", ()), ("auto", ())],
        )?;
        Ok(given)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.take(name).map(PathBuf::from)
    }

    pub(super) fn choose<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConnInfoError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match choices.iter().find(|(text, _)| *text == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let known: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
                Err(bad(name, value, format!("one of {}", known.join(", "))))
            }
        }
    }

    fn number(&mut self, name: &'static str) -> Result<Option<i32>, ConnInfoError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        value
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| bad(name, value, "an integer"))
    }

    /// A duration in units of `unit`; zero and less mean the system's default.
    fn duration(&mut self, name: &'static str, unit: Duration) -> Result<Option<Duration>, ConnInfoError> {
        let number = self.number(name)?.and_then(|n| u32::try_from(n).ok());
        Ok(number.filter(|&n| n > 0).map(|n| unit * n))
    }

    pub(super) fn connect_timeout(&mut self) -> Result<Option<Duration>, ConnInfoError> {
        if self.0.contains_key("connect_timeout") {
            self.duration("connect_timeout", Duration::from_secs(1))
        } else {
            Ok(Some(DEFAULT_CONNECT_TIMEOUT))
        }
    }

    pub(super) fn hosts(&mut self) -> Result<Vec<Host>, ConnInfoError> {
        let list = |value: Option<String>| -> Vec<String> {
            value.map_or_else(Vec::new, |v| v.split(',').map(str::to_owned).collect())
        };
        let names = list(self.take("host"));
        let addresses = list(self.take("hostaddr"));
        let ports = list(self.take("port"));
        let count = names.len().max(addresses.len()).max(1);
        let fits =
            |list: &[String], one: bool| list.is_empty() || list.len() == count || one && list.len() == 1;
        for (list, one) in [(&names, false), (&addresses, false), (&ports, true)] {
            if !fits(list, one) {
                return Err(ConnInfoError::Lists(list.len(), count));
            }
        }
        let get = |list: &[String], i: usize| list.get(i).filter(|text| !text.is_empty()).cloned();
        (0..count)
            .map(|i| {
                let address = get(&addresses, i);
                let name = get(&names, i).or(address.clone());
                let port = get(&ports, if ports.len() == 1 { 0 } else { i });
                Ok(Host {
                    name: name.unwrap_or_else(|| DEFAULT_HOST.into()),
                    address: address.map(parse_address).transpose()?,
                    port: port.map_or(Ok(DEFAULT_PORT), parse_port)?,
                })
            })
            .collect()
    }

    pub(super) fn ssl(&mut self, in_home: impl Fn(&str) -> Option<PathBuf>) -> Result<Ssl, ConnInfoError> {
        let root_cert = self.take("sslrootcert").map(|value| match value.as_str() {
            "system" => RootCert::System,
            _ => RootCert::File(value.into()),
        });
        let system = root_cert == Some(RootCert::System);
        let default = if system {
            SslMode::VerifyFull
        } else {
            SslMode::Prefer
        };
        let mode = self.choose("sslmode", &SSL_MODES)?.unwrap_or(default);
        if system && mode != SslMode::VerifyFull {
            let value = SSL_MODES
                .iter()
                .find(|(_, m)| *m == mode)
                .map_or("", |(name, _)| name);
            return Err(bad(
                "sslmode",
                value.into(),
                "verify-full, because sslrootcert is system",
            ));
        }
        let negotiation = [("postgres", false), ("direct", true)];
        let direct = self.choose("sslnegotiation", &negotiation)?.unwrap_or(false);
        if direct && mode < SslMode::Require {
            return Err(bad(
                "sslnegotiation",
                "direct".into(),
                "sslmode require or stricter with it",
            ));
        }
        let default_root = || in_home(".postgresql/root.crt").map(RootCert::File);
        Ok(Ssl {
            mode,
            root_cert: root_cert.or_else(default_root),
            cert: self
                .path("sslcert")
                .or_else(|| in_home(".postgresql/postgresql.crt")),
            key: self
                .path("sslkey")
                .or_else(|| in_home(".postgresql/postgresql.key")),
            direct,
            channel_binding: self
                .choose("channel_binding", &CHANNEL_BINDINGS)?
                .unwrap_or(ChannelBinding::Prefer),
        })
    }

    pub(super) fn keepalives(&mut self) -> Result<Keepalives, ConnInfoError> {
        let second = Duration::from_secs(1);
        Ok(Keepalives {
            disabled: self.number("keepalives")? == Some(0),
            idle: self.duration("keepalives_idle", second)?,
            interval: self.duration("keepalives_interval", second)?,
            count: self
                .number("keepalives_count")?
                .and_then(|n| u32::try_from(n).ok())
                .filter(|&n| n > 0),
            user_timeout: self.duration("tcp_user_timeout", Duration::from_millis(1))?,
        })
    }
}

fn parse_address(value: String) -> Result<IpAddr, ConnInfoError> {
    value
        .parse()
        .map_err(|_| bad("hostaddr", value, "a numeric address"))
}

fn parse_port(value: String) -> Result<u16, ConnInfoError> {
    let port = value.trim().parse().ok().filter(|&port| port != 0);
    port.ok_or_else(|| bad("port", value, "a number from 1 to 65535"))
}

fn bad(name: &'static str, value: String, expected: impl Into<Cow<'static, str>>) -> ConnInfoError {
    ConnInfoError::Value {
        name,
        value,
        expected: expected.into(),
    }
}
