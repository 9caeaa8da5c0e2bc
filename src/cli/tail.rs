//! `walcast tail`: subscriptions on the command line, one line per change.

mod args;
mod feed;
mod line;
mod object;
mod server;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use rustls::{CertificateError, Error as TlsError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderValue, StatusCode, header};
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error as SocketError, Message};

pub(crate) use self::args::Args;
use self::args::{Numbers, Undecided};
use self::feed::{Feed, Output, Query};
use self::server::{Server, Stream};
use super::WrongFlags;
use crate::lsn::{Epoch, Start};
use crate::private_files::read_secret;

/// The longest wait before the connection is tried again; the first is [`FIRST_DELAY`].
const MAX_DELAY: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// After so long without a word from the server it is pinged; after as long again the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// The largest message that is taken: one row, as large as Postgres could send it.
const MAX_MESSAGE: usize = 1 << 30;

type Socket = WebSocketStream<Stream>;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let tail = Tail::new(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            ended = tail.follow() => ended,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for SIGINT"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The end of a connection, and what to do about it.
#[derive(Debug)]
enum Ended {
    /// Nothing more is wanted: enough changes, or nobody reads them.
    Done,
    /// It may be made again, after waiting for a random part of the given time if there is one.
    Lost(String, Duration),
}

struct Tail {
    server: Server,
    token_file: Option<PathBuf>,
    feed: Feed,
    raw: bool,
    /// The number of changes that are still wanted.
    left: Option<u64>,
    reconnect: bool,
    /// True if a connection may be tried again: it was there before, or may come.
    patient: bool,
}

impl Tail {
    fn new(args: Args) -> Result<Tail, WrongFlags> {
        let mut url = args.url;
        if args.numbers == Numbers::String {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str("numbers=string");
        }
        let server = Server::new(url, args.ca_file.as_deref()).map_err(WrongFlags)?;
        if args.token_file.is_some() && server.is_overheard() {
            eprintln!(
                "walcast: warning: without TLS (wss://) the token can be read on its way to {}",
                server.url
            );
        }
        let texts = args.param.into_iter().map(serde_json::Value::String);
        let query = Query {
            tables: args.tables,
            predicate: args.predicate,
            params: texts.chain(args.param_json).collect(),
            columns: args.columns,
            ops: args.ops,
            old: args.old,
            undecided: args.undecided.map(Undecided::as_str),
            snapshot: args.snapshot,
            now: args.now.clone(),
        };
        Ok(Tail {
            server,
            token_file: args.token_file,
            feed: Feed::new(
                query,
                args.format,
                args.from.unwrap_or(Start::Now),
                args.epoch.map(Epoch).as_ref(),
            ),
            raw: args.raw,
            left: args.count,
            reconnect: !args.no_reconnect,
            patient: args.wait,
        })
    }

    /// Prints changes, over as many connections as it takes, until there are enough.
    async fn follow(mut self) -> anyhow::Result<()> {
        if self.left == Some(0) {
            return Ok(());
        }
        let mut attempts = 0;
        loop {
            let ended = match self.connect().await? {
                Ok(mut socket) => {
                    self.patient = true;
                    let ended = self.read(&mut socket).await?;
                    // A server that takes connections and nothing else is not there yet.
                    if self.feed.is_accepted() {
                        attempts = 0;
                    }
                    ended
                }
                Err(lost) => lost,
            };
            let Ended::Lost(why, spread) = ended else {
                return Ok(());
            };
            if !self.reconnect {
                bail!("{why}");
            }
            let delay = delay(attempts, spread, fastrand::f64());
            if attempts == 0 {
                eprintln!("walcast: {why}; connecting again");
            }
            attempts += 1;
            tokio::time::sleep(delay).await;
        }
    }

    /// Connects. A server that cannot be reached is an error at first: the address may be wrong.
    async fn connect(&self) -> anyhow::Result<Result<Socket, Ended>> {
        let url = &self.server.url;
        let mut request = url
            .as_str()
            .into_client_request()
            .with_context(|| format!("--url {url}"))?;
        let offer = HeaderValue::from_static("walcast.v1");
        request
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, offer);
        if let Some(file) = &self.token_file {
            let bearer = bearer(file).with_context(|| format!("--token-file {}", file.display()))?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let connected = match self.server.connect().await {
            Ok(stream) => client_async_with_config(request, stream, Some(config)).await,
            Err(error) => Err(error.into()),
        };
        match connected {
            Ok((socket, _)) => Ok(Ok(socket)),
            Err(SocketError::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let words = String::from_utf8_lossy(body).trim().to_owned();
                let why = refusal(response.status(), &words);
                match response.status() {
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                        Ok(Err(Ended::Lost(why, Duration::ZERO)))
                    }
                    _ => bail!("{why}"),
                }
            }
            Err(error) if self.patient => Ok(Err(Ended::Lost(error.to_string(), Duration::ZERO))),
            // Its own words hold those of its cause.
            Err(error) => bail!("cannot connect to {url}: {error}: {}", unreachable(&error)),
        }
    }

    /// Prints what one connection brings.
    async fn read(&mut self, socket: &mut Socket) -> anyhow::Result<Ended> {
        let mut silent = false;
        for message in self.feed.subscribe() {
            if let Err(error) = socket.send(message.into()).await {
                return Ok(Ended::Lost(error.to_string(), Duration::ZERO));
            }
        }
        loop {
            let message = match tokio::time::timeout(SILENCE, socket.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Ok(Ended::Lost(error.to_string(), Duration::ZERO)),
                Ok(None) => return Ok(Ended::Lost("the connection was closed".into(), Duration::ZERO)),
                Err(_) if silent => return Ok(Ended::Lost("the server is silent".into(), Duration::ZERO)),
                Err(_) => {
                    silent = true;
                    // If it cannot be sent, reading says why.
                    drop(socket.send(Message::Ping(bytes::Bytes::new())).await);
                    continue;
                }
            };
            silent = false;
            let go_on = match message {
                Message::Text(text) => match self.print(&text)? {
                    Printed::More => true,
                    Printed::Enough => false,
                    Printed::Unavailable(why) => return Ok(Ended::Lost(why, Duration::ZERO)),
                },
                Message::Close(frame) => return closed(frame),
                _ => true,
            };
            if !go_on {
                return Ok(Ended::Done);
            }
        }
    }

    /// Prints what a message means.
    fn print(&mut self, text: &str) -> anyhow::Result<Printed> {
        let mut outputs = Vec::new();
        let received = self.feed.receive(text, &mut outputs);
        let mut lines = String::new();
        if self.raw {
            lines.push_str(text);
            lines.push('\n');
        }
        for output in outputs {
            match output {
                Output::Note(note) => eprintln!("walcast: {note}"),
                Output::Reset(line) if !self.raw => {
                    lines.push_str(&line);
                    lines.push('\n');
                }
                Output::Reset(_) => {}
                Output::Change(_) if self.left == Some(0) => {}
                Output::Change(line) => {
                    self.left = self.left.map(|left| left - 1);
                    if !self.raw {
                        lines.push_str(&line);
                        lines.push('\n');
                    }
                }
            }
        }
        let is_read = write(&lines)?;
        match received {
            Err(feed::Error::Unavailable(why)) => return Ok(Printed::Unavailable(why)),
            received => received?,
        }
        Ok(if is_read && self.left != Some(0) {
            Printed::More
        } else {
            Printed::Enough
        })
    }
}

/// The consequence of a message that was printed.
enum Printed {
    /// More is wanted.
    More,
    /// Nothing more is wanted.
    Enough,
    /// The server could not answer just now, for the reason given.
    Unavailable(String),
}

/// The advice on a server that could not be reached.
fn unreachable(error: &SocketError) -> &'static str {
    let error = match error {
        SocketError::Io(error) => error.get_ref().and_then(|error| error.downcast_ref()),
        _ => None,
    };
    match error {
        // A signature is bad if another authority has the same name.
        Some(TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "--ca-file names a file with the authority that issued the server's certificate",
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "--url has to have a name that the server's certificate is for",
        Some(TlsError::InvalidCertificate(_)) => "the server needs another certificate (--tls-cert)",
        Some(_) => "does the server speak TLS (--tls-cert)? Without it --url begins with ws://",
        None => {
            "is `walcast serve` running there (--listen)? --url names another address, --wait waits for the server"
        }
    }
}

/// An HTTP answer instead of a websocket, in words.
fn refusal(status: StatusCode, words: &str) -> String {
    match (status, words) {
        (StatusCode::NOT_FOUND, "") => {
            format!("the server answered {status}: the path of --url should be /v1/stream")
        }
        (_, "") => format!("the server answered {status}"),
        _ => format!("the server answered {status}: {words}"),
    }
}

/// The header by the token in a file, which nobody else may read.
fn bearer(file: &Path) -> anyhow::Result<HeaderValue> {
    let token = read_secret(file)?;
    let token = std::str::from_utf8(&token).unwrap_or_default().trim();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut bearer = bearer
        .ok()
        .filter(|_| !token.is_empty())
        .context("it holds no token")?;
    // Debugging shows headers.
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// Writes to standard output. False if nobody reads it any more.
fn write(lines: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// The end that a close frame asks for (docs/protocol.md, "Errors and close codes").
fn closed(frame: Option<CloseFrame>) -> anyhow::Result<Ended> {
    let Some(CloseFrame { code, reason }) = frame else {
        return Ok(Ended::Lost(
            "the server closed the connection".into(),
            Duration::ZERO,
        ));
    };
    let code = u16::from(code);
    let why = format!("the server closed the connection: {code} {reason}");
    if code >= 4500 || [1002, 1007, 1009].contains(&code) {
        bail!("{why}");
    }
    let spread = reason.strip_prefix("spread=").filter(|_| code == 1001);
    let seconds = spread.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    Ok(Ended::Lost(why, Duration::from_secs(seconds)))
}

/// The time to wait before attempt `attempts`: doubling, and at random, so that not all clients come at once.
fn delay(attempts: u32, spread: Duration, random: f64) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << attempts.min(16)).min(MAX_DELAY);
    doubled / 2 + doubled.max(spread).mul_f64(random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_http_is_told_in_whole_sentences() {
        let told = |status, words| refusal(status, words);
        assert!(told(StatusCode::NOT_FOUND, "").ends_with("should be /v1/stream"));
        assert!(told(StatusCode::BAD_GATEWAY, "").ends_with("502 Bad Gateway"));
        assert!(told(StatusCode::FORBIDDEN, "not you").ends_with("403 Forbidden: not you"));
    }

    #[test]
    fn delays_double_up_to_a_limit_and_honour_the_spread() {
        let ms = |attempts, random| delay(attempts, Duration::ZERO, random).as_millis();
        assert_eq!(
            (ms(0, 0.0), ms(0, 1.0), ms(3, 0.0), ms(3, 1.0)),
            (50, 100, 400, 800)
        );
        assert_eq!((ms(u32::MAX, 0.0), ms(u32::MAX, 1.0)), (5_000, 10_000));
    }

    #[test]
    fn close_codes_say_whether_and_when_to_come_back() {
        let close = |code: u16, reason: &'static str| {
            closed(Some(CloseFrame {
                code: code.into(),
                reason: reason.into(),
            }))
        };
        for (code, reason, wait) in [
            (1001, "spread=30", 30),
            (1001, "", 0),
            (1006, "spread=30", 0),
            (4001, "too slow", 0),
        ] {
            let Ok(Ended::Lost(why, spread)) = close(code, reason) else {
                panic!("{code}");
            };
            assert_eq!(spread, Duration::from_secs(wait), "{code}");
            assert!(why.contains(reason));
        }
        for code in [1002, 1007, 1009, 4500, 4501, 4999] {
            let error = close(code, "the server's words").unwrap_err().to_string();
            assert!(error.contains("the server's words"), "{error}");
        }
        assert!(matches!(closed(None), Ok(Ended::Lost(..))));
    }
}
