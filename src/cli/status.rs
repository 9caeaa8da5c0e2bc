//! `walcast status`: the state of a running server.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bytesize::ByteSize;
use tokio::net::TcpStream;

use super::look::UNREACHABLE;
use super::{print, values};
use crate::fetch::{ExchangeError, exchange};
use crate::http::{NamedSource, Slot, Source, Status};
use crate::private_files::read_secret;

/// Print the state of a running server: its positions, its slot, its clients.
///
/// Asks its admin listener. Exits with 1 if the server is not ready (of several databases: if none is), and with 3 if it
/// cannot be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the server's admin listener.
    #[arg(
        long,
        env = "WALCAST_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090",
        value_parser = values::address
    )]
    admin_listen: SocketAddr,
    /// The file with the token that it needs.
    #[arg(long, env = "WALCAST_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Print it as JSON, as /api/status has it.
    #[arg(long, env = "WALCAST_JSON")]
    json: bool,
}

/// The time that the answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let asked = ask(args).and_then(|text| {
        let status: Status = serde_json::from_slice(&text).context("the answer is no status")?;
        let text = String::from_utf8(text).context("the answer is no status")?;
        Ok((text, status))
    });
    match asked {
        Ok((text, status)) => {
            let now = SystemTime::now();
            let text = if args.json { text } else { in_words(&status, now) };
            print(&text)?;
            Ok(ExitCode::from(u8::from(!status.ready)))
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(UNREACHABLE))
        }
    }
}

fn ask(args: &Args) -> anyhow::Result<Vec<u8>> {
    let address = reachable(args.admin_listen);
    let mut request = Request::get("/api/status").header(header::HOST, address.to_string());
    if let Some(path) = &args.admin_token_file {
        let failed = || format!("cannot read {} (--admin-token-file)", path.display());
        let token = String::from_utf8(read_secret(path).with_context(failed)?).with_context(failed)?;
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
    }
    let request = request
        .body(Body::empty())
        .context("the token cannot be sent (--admin-token-file)")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let answer = async {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address} (--admin-listen)"))?;
        let answer = exchange(stream, request, MAX_BYTES, |status| match status {
            StatusCode::OK => Ok(()),
            other => Err(Failed::Status(other)),
        });
        Ok(answer.await?)
    };
    match runtime.block_on(async { tokio::time::timeout(TIMEOUT, answer).await }) {
        Ok(answer) => answer.map(|bytes| bytes.to_vec()),
        Err(_) => bail!("{address} did not answer within {} s", TIMEOUT.as_secs()),
    }
}

/// The reason why there is no status.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("the server answered {0}{hint}", hint = hint(*.0))]
    Status(StatusCode),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": name the file with its token (--admin-token-file)",
        StatusCode::NOT_FOUND => ": is this a walcast's admin listener (--admin-listen)?",
        _ => "",
    }
}

/// The address to connect to of a listener that may listen on all addresses.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

fn in_words(status: &Status, now: SystemTime) -> String {
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_seconds));
    let mut words = format!("walcast {}, up {uptime}", status.version);
    if let Some(source) = &status.source {
        words += ": ";
        source_in_words(&mut words, status.ready, source);
    }
    for NamedSource { name, ready, source } in &status.sources {
        // Writing to a string does not fail.
        let _ = write!(words, "\n\n{name}: ");
        source_in_words(&mut words, *ready, source);
    }
    if let Some(seconds) = status.tls_certificate_expires {
        let gap = if status.sources.is_empty() { "" } else { "\n" };
        let _ = write!(words, "{gap}\ncertificate  {}", expiry(seconds, now));
    }
    words.push('\n');
    words
}

fn source_in_words(words: &mut String, is_ready: bool, source: &Source) {
    *words += match (is_ready, source.standby) {
        (true, _) => "ready",
        (false, true) => "standby",
        (false, false) => "not ready",
    };
    // Writing to a string does not fail.
    if let Some(remark) = &source.remark {
        let _ = write!(words, ": {remark}");
    }
    let positions = &source.positions;
    let stream = if source.replication_up {
        "connected"
    } else {
        "not connected"
    };
    let _ = write!(
        words,
        "\nstream       {stream}; received {}, journaled {}, confirmed {}",
        positions.received, positions.journaled, positions.confirmed
    );
    let _ = write!(words, "\nslot         {}", slot_in_words(source.slot.as_ref()));
    let _ = write!(words, "\njournal      {}", size(source.journal_bytes));
    let clients = &source.clients;
    let _ = write!(
        words,
        "\nclients      connections {} (stalled {}), subscriptions {}, queries {}, catching up {}",
        clients.connections, clients.stalled, clients.subscriptions, clients.queries, clients.catching_up
    );
    let snapshots = &source.snapshots;
    let _ = write!(
        words,
        "\nsnapshots    reading {}, waiting {}",
        snapshots.reading, snapshots.waiting
    );
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

fn slot_in_words(slot: Option<&Slot>) -> String {
    let Some(slot) = slot else {
        return "not read yet".into();
    };
    if slot.lost {
        return "LOST".into();
    }
    let limit = match slot.safe_wal_bytes {
        Some(bytes) => format!(", invalidated after {} more at the earliest", size(bytes)),
        None => " without limit".into(),
    };
    let [lag, retained] = [slot.lag_bytes, slot.retained_wal_bytes].map(size);
    format!("{lag} behind, {retained} of WAL retained{limit}")
}

/// When a certificate expires, as in `expires in 29 days`.
fn expiry(seconds: i64, now: SystemTime) -> String {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    const DAY: u64 = 24 * 60 * 60;
    match end.duration_since(now) {
        Ok(left) if left.as_secs() >= 2 * DAY => format!("expires in {} days", left.as_secs() / DAY),
        Ok(left) => format!("expires in {} h", left.as_secs() / 3600),
        Err(_) => "EXPIRED".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_expires_in_days_in_hours_or_has_expired() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(expiry(10 * 86_400, at(0)), "expires in 10 days");
        assert_eq!(expiry(86_400, at(3_600)), "expires in 23 h");
        assert_eq!(expiry(86_400, at(86_401)), "EXPIRED");
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_this_machine() {
        for (listener, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.1:1", "192.0.2.1:1"),
        ] {
            let listener: SocketAddr = listener.parse().unwrap();
            assert_eq!(reachable(listener).to_string(), asked);
        }
    }
}
