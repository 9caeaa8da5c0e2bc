//! `walcast demo`: a throwaway Postgres with a shop's traffic, walcast on it, and the console and pages to watch it.

mod page;
mod shop;
mod tenants;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::shop::Shop;
use self::tenants::Issuer;
use super::signals::{Hangup, cancel_on_signals};
use super::{WrongFlags, serve, values};
use crate::app;
use crate::cluster::{Cluster, Directory, remove_dead};

/// The names of the demos' own directories begin with it.
const PREFIX: &str = "walcast-demo-";

/// Show live queries on a throwaway Postgres with the traffic of a small shop.
///
/// Nothing needs to be set up but Postgres' programs, and nothing is left behind: Ctrl-C stops the server, walcast and
/// the traffic, and removes their files.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the page, and of ws://ADDR/v1/stream.
    #[arg(
        long,
        env = "WALCAST_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        value_parser = values::address
    )]
    listen: SocketAddr,
    /// Address of the console, /metrics and /health. If it is not given: 127.0.0.1:8081, or any free port where that is
    /// taken.
    #[arg(
        long,
        env = "WALCAST_ADMIN_LISTEN",
        value_name = "ADDR",
        value_parser = values::address
    )]
    admin_listen: Option<SocketAddr>,
    /// The web pages that may connect besides the demo's own, which may where it is opened by an IP address or as
    /// localhost.
    #[arg(long, env = "WALCAST_ALLOW_ORIGIN", value_name = "ORIGIN[,ORIGIN]")]
    allow_origin: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Bound for a moment, to know before anything is started; the listener itself comes with the server.
    TcpListener::bind(args.listen).with_context(|| {
        format!(
            "cannot listen on {}: choose another address by --listen",
            args.listen
        )
    })?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let stop = CancellationToken::new();
    runtime.block_on(async { cancel_on_signals(&stop, Hangup::Ends) })?;
    remove_what_was_left();
    eprintln!("starting a throwaway Postgres …");
    let shop = Shop::open()?;
    let ended = if stop.is_cancelled() {
        Ok(())
    } else {
        runtime.block_on(show(args, &shop, stop))
    };
    // What still looks at the database goes before it.
    drop(runtime);
    drop(shop);
    ended.map(|()| ExitCode::SUCCESS)
}

/// Removes what demos left that were killed before they could.
fn remove_what_was_left() {
    let removed = [remove_dead(&std::env::temp_dir(), PREFIX), Cluster::remove_dead()];
    for removed in removed {
        match removed {
            Ok(paths) => paths
                .iter()
                .for_each(|path| eprintln!("removed {}, which a killed demo had left", path.display())),
            // The demo itself needs the place, and says more of it.
            Err(error) => tracing::debug!(%error, "cannot look for what killed demos left"),
        }
    }
}

async fn show(args: &Args, shop: &Shop, stop: CancellationToken) -> anyhow::Result<()> {
    let parent = std::env::temp_dir();
    let journal = Directory::new(&parent, PREFIX)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    // Variables of serve's flags count here too, and may be wrong.
    let serve = Serve::try_parse_from(flags(args, shop, journal.path().join("journal")));
    let issuer = Issuer::new(journal.path())?;
    let mut config = serve
        .map_err(WrongFlags::of_clap)?
        .args
        .config(&[], &*tenants::access(journal.path())?)?;
    // Whoever reaches the pages can have the tokens of both tenants.
    config.admin.shows_rows = true;

    let (bound, addresses) = oneshot::channel();
    let bridge = app::serve(config, Some(page::routes(issuer)), Some(bound), stop.clone());
    let traffic = shop.traffic()?;
    let trade = async {
        // If the bridge fails before it is bound, it says itself why.
        let Ok((front, admin)) = addresses.await else {
            return Ok(());
        };
        // The demo runs also if nobody can read this.
        drop(std::io::stdout().write_all(guide(front, admin, shop).as_bytes()));
        let stop = stop.clone();
        spawn_blocking(move || traffic.run(&stop)).await?
    };
    let (served, traded) = tokio::join!(ending(&stop, bridge), ending(&stop, trade));
    served.and(traded)
}

/// Does `work`; when it ends, everything ends.
async fn ending<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> T {
    let ended = work.await;
    stop.cancel();
    ended
}

/// The usual address of the console.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// The address of the console: the one that was asked for, or else the usual one if it is free.
fn admin_listen(args: &Args) -> SocketAddr {
    let is_free = || CONSOLE.port() != args.listen.port() && TcpListener::bind(CONSOLE).is_ok();
    match args.admin_listen {
        Some(asked) => asked,
        None if is_free() => CONSOLE,
        None => SocketAddr::new(CONSOLE.ip(), 0),
    }
}

/// The demo's bridge is `walcast serve` with these flags; what they leave out has serve's defaults.
fn flags(args: &Args, shop: &Shop, data_dir: std::path::PathBuf) -> Vec<std::ffi::OsString> {
    let texts = [
        ("--database-url", shop.url()),
        ("--slot", shop::NAME.into()),
        ("--publication", shop::NAME.into()),
        ("--listen", args.listen.to_string()),
        ("--admin-listen", admin_listen(args).to_string()),
        ("--retention-bytes", "256MiB".into()),
        ("--segment-bytes", "16MiB".into()),
        ("--progress-interval", "1s".into()),
        ("--reconnect-spread", "0s".into()),
        ("--drain-timeout", "1s".into()),
    ];
    let allowed = args
        .allow_origin
        .clone()
        .map(|origins| ("--allow-origin", origins));
    let texts = texts
        .into_iter()
        .chain(allowed)
        .flat_map(|(flag, value)| [flag.into(), value.into()]);
    let program = ["serve".into()].into_iter().chain(texts);
    program
        .chain(["--data-dir".into(), data_dir.into_os_string()])
        .collect()
}

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: serve::Args,
}

fn guide(front: SocketAddr, admin: SocketAddr, shop: &Shop) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "walcast".into());
    let url = match front.port() {
        8080 => String::new(),
        _ => format!(" --url ws://{front}/v1/stream"),
    };
    format!(
        "
  console:  http://{admin}/
  page:     http://{front}/
  tenants:  http://{front}/tenants
  metrics:  http://{admin}/metrics

The console shows the rows of a predicate as they change, each transaction, and how walcast is. On the page you can cut the
connection and resume it; on the third, two tenants with tokens of their own watch one table, and rows move between them.
Or, from another terminal:

  {program} tail orders{url} --where \"status = 'paid' AND amount > 100\"
  {program} tail orders{url} --from earliest --count 3
  (umask 077; curl -s http://{front}/demo/token/acme > acme.token); {program} tail support.tickets{url} --token-file acme.token
  {}

On a database of your own, where check says what is missing, and changes nothing:

  {program} check --database-url postgresql://you@host/database --slot walcast --publication walcast
  {program} serve --database-url postgresql://you@host/database --slot walcast --publication walcast --data-dir ./walcast-data

Ctrl-C stops all of this and leaves nothing behind.
",
        shop.psql()
    )
}
