//! [`serve`]: listeners, signals and sources, started and stopped in order.

mod background;
mod descriptors;
mod notify;
mod source;
mod stages;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router as Routes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::background::Background;
pub use self::notify::Notifier;
use self::source::Keeper;
pub use self::source::Source;
use self::stages::Stages;
use crate::config::Access;
use crate::console::{Console, ConsoleSource};
use crate::health::Readiness;
use crate::http::{self, Admin, Gate, Server, Tls};
use crate::keys::{self, Authenticator};
use crate::protocol::ErrorCode;
use crate::session;
use crate::telemetry::Metrics;
use crate::telemetry::traces::Traces;

/// The interval at which the service manager is told the state, if it is another one.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that `serve` needs to know, checked.
#[derive(Clone)]
pub struct Config {
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The address that operators and Prometheus connect to.
    pub admin_listen: SocketAddr,
    /// The options of the admin listener.
    pub admin: http::AdminOptions,
    /// The web pages that may connect.
    pub origins: http::Origins,
    /// Bounds on the clients' listener.
    pub http: http::Options,
    /// The most clients that may be connected without having sent their token.
    pub max_unauthenticated: usize,
    /// The server's certificate; without one, clients are served without TLS.
    pub certificate: Option<http::CertificateFiles>,
    /// The time that clients get to take their close frames when walcast stops.
    pub drain_timeout: Duration,
    /// The access that callers have. It changes whenever the operator asks to read files again (SIGHUP), even to the
    /// same value. Every part that has read a file, such as a certificate, then reads it again, and logs that. It is
    /// closed when nothing will be read again.
    pub reload: watch::Receiver<Arc<Access>>,
    /// The service manager that started this process.
    pub notifier: Notifier,
    /// The databases that are served: one without a name, or each with one.
    pub sources: Vec<Source>,
    /// The clients' limits that they have in common.
    pub shared: session::Shared,
    /// The rules by which their clients are identified. If `None`, everybody may see everything.
    pub auth: Option<keys::Options>,
}

/// Bounds on the admin listener.
fn admin_options() -> http::Options {
    http::Options {
        // Those of operators.
        max_connections: http::MAX_STREAMS,
        max_handshakes: 64,
        address_limits: http::AddressLimits::NONE,
        proxies: http::Proxies::default(),
        handshake_timeout: Duration::from_secs(5),
        send_buffer_bytes: 0,
    }
}

/// Serves until `stop`, or until something fails for good. `page` adds routes to the clients' listener; `bound` is told
/// the addresses of both listeners, the clients' first.
///
/// # Errors
/// The reason why it cannot start, or what failed.
pub async fn serve(
    mut config: Config,
    page: Option<Routes>,
    bound: Option<oneshot::Sender<(SocketAddr, SocketAddr)>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let is_single = config.sources.iter().all(|source| source.name.is_none());
    let metrics = if is_single {
        Metrics::new()
    } else {
        Metrics::of_program()
    };
    let traces = Traces::start(&metrics)?;
    let mut stages = Stages::default();
    let background = Background::start()?;
    let exposure = http::Exposure {
        is_loopback: config.admin_listen.ip().to_canonical().is_loopback(),
        has_policies: config.auth.is_some(),
    };
    if let Some(options) = config.auth.take() {
        let (authenticator, refresh) =
            Authenticator::open(options.clone(), &metrics).context("tokens cannot be verified")?;
        let authenticator = Arc::new(authenticator);
        for source in &mut config.sources {
            source.bridge.auth = Some(Arc::clone(&authenticator));
        }
        tokio::spawn(reread_keys(authenticator, options, config.reload.clone()));
        if let Some(refresh) = refresh {
            let stop = stages.clients.token();
            stages
                .clients
                .spawn_infallible(async move { refresh.run(stop).await });
        }
    }
    let rules = Admin::open(config.admin.clone(), exposure, Arc::clone(&metrics));
    let rules = Arc::new(rules.context("cannot serve operators (--admin-token-file)")?);
    let Listeners { clients, admin, tls } = Listeners::bind(&config, &metrics, background.handle()).await?;
    if !rules.has_token() && !exposure.is_loopback {
        tracing::warn!(
            event = "admin_without_token",
            admin_listen = %config.admin_listen,
            "operators are answered WITHOUT a token on an address that other machines reach: names of tables, hosts and \
             roles are shown there. Give --admin-token-file, or let only operators reach this address"
        );
    }
    let announcement = Arc::new(Mutex::new(Announcement {
        clients: clients.local_addr()?,
        admin: admin.local_addr()?,
        bound,
        notifier: config.notifier.clone(),
        is_made: false,
    }));
    let keepers: Vec<Keeper> = config
        .sources
        .into_iter()
        .map(|source| Keeper {
            metrics: match &source.name {
                Some(name) => Metrics::of_source(name.as_str()),
                None => Arc::clone(&metrics),
            },
            source,
            readiness: Readiness::not_yet("starting", &stages.clients.token()),
            place: Arc::default(),
            shared: config.shared.clone(),
            background: background.handle(),
            drain_timeout: config.drain_timeout,
            announcement: Arc::clone(&announcement),
        })
        .collect();
    for keeper in &keepers {
        for code in ErrorCode::ALL {
            keeper.metrics.know_error(code.as_str());
        }
    }
    let seen = keepers.iter().map(|keeper| http::SourceState {
        name: keeper.source.name.clone(),
        metrics: Arc::clone(&keeper.metrics),
        readiness: keeper.readiness.clone(),
    });
    let seen: Vec<http::SourceState> = seen.collect();
    let shown = keepers.iter().map(|keeper| ConsoleSource {
        name: keeper.source.name.clone(),
        place: Arc::clone(&keeper.place),
        metrics: Arc::clone(&keeper.metrics),
        readiness: keeper.readiness.clone(),
        conninfo: keeper.source.bridge.ingest.conninfo.clone(),
        wanted: keeper.source.bridge.requirements(),
        access: config.reload.clone(),
    });
    let console = Console::new(Arc::clone(&rules), shown, clients.local_addr()?, tls.is_some());
    let operated = keepers.iter().map(|keeper| http::OperatorGate {
        name: keeper.source.name.clone(),
        place: Arc::clone(&keeper.place),
        metrics: Arc::clone(&keeper.metrics),
        readiness: keeper.readiness.clone(),
        stop: stages.clients.token(),
    });
    let routes = console.routes().merge(http::operators(&rules, operated));
    let routes = http::admin(Arc::clone(&rules), Arc::clone(&metrics), seen.clone(), routes);
    stages
        .admin
        .spawn_infallible(console.record(stages.admin.token()));
    let counted = Arc::clone(&metrics);
    let stop_admin = stages.admin.token();
    stages
        .admin
        .spawn_infallible(async move { admin.run(routes, counted, stop_admin).await });
    let (reload, stop_admin) = (config.reload.clone(), stages.admin.token());
    stages
        .admin
        .spawn_infallible(async move { rules.follow(reload, stop_admin).await });

    let stop_admin = stages.admin.token();
    let fed = config.notifier.clone().feed_watchdog(stop_admin.clone());
    stages.admin.spawn_infallible(async move {
        fed.await;
        // Without a watchdog there is nothing to feed, and no part may end by itself.
        stop_admin.cancelled().await;
    });

    let (told, states) = (config.notifier.clone(), seen.clone());
    let stop_admin = stages.admin.token();
    stages.admin.spawn_infallible(async move {
        let status = move || http::state_in_words(&states);
        told.tell_status(status, STATUS_INTERVAL, stop_admin.clone())
            .await;
        stop_admin.cancelled().await;
    });

    if let Some(tls) = tls {
        let reload = config.reload.clone();
        let stop = stages.clients.token();
        stages
            .clients
            .spawn_infallible(async move { tls.follow(reload, stop).await });
    }

    let origins = Arc::new(config.origins);
    let refused = Arc::default();
    let waiting = Arc::new(Semaphore::new(config.max_unauthenticated));
    let gates = keepers.iter().map(|keeper| Gate {
        name: keeper.source.name.clone(),
        place: Arc::clone(&keeper.place),
        metrics: Arc::clone(&keeper.metrics),
        readiness: keeper.readiness.clone(),
        origins: Arc::clone(&origins),
        refused: Arc::clone(&refused),
        waiting: Arc::clone(&waiting),
        stop: stages.clients.token(),
    });
    let routes = http::streams(gates).merge(page.unwrap_or_default());
    let stop_accepting = stages.clients.token();
    stages
        .clients
        .spawn_infallible(async move { clients.run(routes, metrics, stop_accepting).await });
    for keeper in keepers {
        if keeper.source.name.is_some() {
            // None of them may keep the others from being served.
            announcement.lock().make();
        }
        let stop = stages.sources.token();
        stages.sources.spawn(keeper.run(stop));
    }

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        failed = stages.failed() => Some(failed),
    };
    for source in seen {
        source.readiness.unready("stopping");
    }
    config.notifier.stopping();
    let stopped = stages.stop(failed).await;
    traces.stop().await;
    stopped
}

/// Reads the keys for tokens again whenever the operator asks to read files again.
async fn reread_keys(
    authenticator: Arc<Authenticator>,
    options: keys::Options,
    mut reload: watch::Receiver<Arc<Access>>,
) {
    while reload.changed().await.is_ok() {
        let access = Arc::clone(&reload.borrow_and_update());
        let now = access
            .auth
            .as_ref()
            .map(|auth| keys::Options::of(auth, options.timeout));
        if now.as_ref() != Some(&options) {
            tracing::warn!(
                event = "auth_restart_required",
                "SIGHUP: what changed in [auth] takes a restart"
            );
        }
        let authenticator = Arc::clone(&authenticator);
        // It fails when the runtime stops.
        match spawn_blocking(move || authenticator.reread()).await {
            Ok(Ok(())) => tracing::info!(
                event = "token_keys_reloaded",
                "SIGHUP: the keys for tokens were read again"
            ),
            Ok(Err(error)) => tracing::error!(
                event = "token_keys_reload_failed", %error,
                "SIGHUP: the old keys for tokens stay"
            ),
            Err(_) => return,
        }
    }
}

/// Announces the listeners' addresses once, to the log and to the service manager: when clients are served, or earlier if
/// the database is waited for.
struct Announcement {
    clients: SocketAddr,
    admin: SocketAddr,
    bound: Option<oneshot::Sender<(SocketAddr, SocketAddr)>>,
    notifier: Notifier,
    is_made: bool,
}

impl Announcement {
    fn make(&mut self) {
        if self.is_made {
            return;
        }
        self.is_made = true;
        tracing::info!(event = "listening", listen = %self.clients, admin_listen = %self.admin, "listening");
        self.notifier.ready();
        if let Some(bound) = self.bound.take() {
            // The receiver may have stopped waiting.
            let _gone = bound.send((self.clients, self.admin));
        }
    }
}

/// The listeners, bound and not yet served.
struct Listeners {
    clients: Server,
    admin: Server,
    tls: Option<Arc<Tls>>,
}

impl Listeners {
    async fn bind(config: &Config, metrics: &Arc<Metrics>, background: Handle) -> anyhow::Result<Listeners> {
        let descriptors = descriptors::raise();
        let files = config.certificate.clone();
        let tls = files.map(|files| Tls::open(files, Arc::clone(metrics)).map(Arc::new));
        let tls = tls
            .transpose()
            .context("cannot serve with TLS (--tls-cert, --tls-key)")?;
        if tls.is_none() && !config.listen.ip().to_canonical().is_loopback() {
            tracing::warn!(
                event = "clients_without_tls",
                listen = %config.listen,
                "clients are served WITHOUT TLS on an address that other machines reach: whoever is on the way reads and \
                 changes what is sent, tokens included. Give --tls-cert and --tls-key, or end TLS at a proxy that alone \
                 reaches this address"
            );
        }
        let clients = Server::bind(config.listen, config.http.clone(), tls.clone(), background);
        let mut clients =
            clients.with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
        let wanted = config
            .http
            .max_connections
            .saturating_add(config.http.max_handshakes);
        let of_sources = config
            .sources
            .iter()
            .map(|source| source.bridge.snapshots.max_connections);
        let snapshots = of_sources.sum();
        let connections = descriptors::connections(wanted, descriptors, config.sources.len(), snapshots);
        if let Some(descriptors) = descriptors.filter(|_| connections < wanted) {
            tracing::warn!(
                event = "descriptor_limit_low",
                "the limit on open files is {descriptors}: at most {connections} connections instead of {wanted} \
                 (--max-connections and --max-handshakes); raise it by LimitNOFILE= in the systemd unit, or ulimit -H -n"
            );
            clients.limit_connections(connections);
        }
        let most = i64::try_from(clients.max_connections()).unwrap_or(i64::MAX);
        metrics.connections_limit.set(most);
        let admin = Server::bind(config.admin_listen, admin_options(), None, Handle::current());
        let admin =
            admin.with_context(|| format!("cannot listen on {} (--admin-listen)", config.admin_listen))?;
        Ok(Listeners { clients, admin, tls })
    }
}
