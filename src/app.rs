//! [`serve`]: listeners, signals and a bridge, started and stopped in order.

mod descriptors;
mod stages;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router as Routes;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::stages::Stages;
use crate::bridge::{self, Bridge};
use crate::config::Access;
use crate::health::Readiness;
use crate::http::{self, Gate, Server};
use crate::keys::{self, Authenticator};
use crate::protocol::ErrorCode;
use crate::telemetry::Metrics;

/// Everything that `serve` needs to know, checked.
#[derive(Clone)]
pub struct Config {
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The address that operators and Prometheus connect to.
    pub admin_listen: SocketAddr,
    /// The web pages that may connect.
    pub origins: http::Origins,
    /// Bounds on the clients' listener.
    pub http: http::Options,
    /// The time that clients get to take their close frames when walcast stops.
    pub drain_timeout: Duration,
    /// The access that callers have. It changes whenever the operator asks to read files again (SIGHUP), also to the
    /// same value: then whoever has read a file that may be another one now, such as a certificate, reads it again,
    /// and logs that. It is closed when nothing will be read again.
    pub reload: watch::Receiver<Arc<Access>>,
    /// The database that is served.
    pub bridge: bridge::Options,
    /// The rules by which its clients are known; `None`: everybody may see everything.
    pub auth: Option<keys::Options>,
}

/// Bounds on the admin listener.
const ADMIN: http::Options = http::Options {
    max_connections: 64,
    handshake_timeout: Duration::from_secs(5),
    send_buffer_bytes: 0,
};

/// Serves until `stop`, or until something fails that cannot be tried again. `page` adds routes to the clients'
/// listener; `bound` hears the addresses of both listeners, the clients' first.
///
/// # Errors
/// The reason why it cannot start, or what failed.
pub async fn serve(
    mut config: Config,
    page: Option<Routes>,
    bound: Option<oneshot::Sender<(SocketAddr, SocketAddr)>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    for code in ErrorCode::ALL {
        metrics.know_error(code.as_str());
    }
    let mut stages = Stages::default();
    if let Some(options) = config.auth.take() {
        let (authenticator, refresh) =
            Authenticator::open(options.clone(), &metrics).context("tokens cannot be verified")?;
        let authenticator = Arc::new(authenticator);
        config.bridge.auth = Some(Arc::clone(&authenticator));
        tokio::spawn(reread_keys(authenticator, options, config.reload.clone()));
        if let Some(refresh) = refresh {
            let stop = stages.clients.token();
            stages
                .clients
                .spawn_infallible(async move { refresh.run(stop).await });
        }
    }
    let Listeners { clients, admin } = Listeners::bind(&config).await?;
    let mut announcement = Announcement {
        clients: clients.local_addr()?,
        admin: admin.local_addr()?,
        bound,
        is_made: false,
    };
    let readiness = Readiness::not_yet("starting", &stages.clients.token());
    let routes = http::admin(Arc::clone(&metrics), readiness.clone());
    let (counted, stop_admin) = (Arc::clone(&metrics), stages.admin.token());
    stages
        .admin
        .spawn_infallible(async move { admin.run(routes, counted, stop_admin).await });

    let unready = http::unready(readiness.clone(), Arc::clone(&metrics));
    let bridge = tokio::select! {
        bridge = Bridge::open(config.bridge, &metrics, readiness.clone(), || announcement.make()) => bridge?,
        () = clients.run(unready, Arc::clone(&metrics), stop.clone()) => {
            readiness.unready("stopping");
            return stages.stop(config.drain_timeout, None).await;
        }
    };
    let gate = Gate {
        shared: bridge.services(),
        readiness: readiness.clone(),
        origins: Arc::new(config.origins),
        refused: Arc::default(),
        sessions: stages.sessions.clone(),
        stop: stages.clients.token(),
    };
    stages.bridge = Some(bridge.start()?);
    let routes = http::stream(gate).merge(page.unwrap_or_default());
    let stop_accepting = stages.clients.token();
    stages
        .clients
        .spawn_infallible(async move { clients.run(routes, metrics, stop_accepting).await });
    announcement.make();

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        failed = stages.failed() => Some(failed),
    };
    readiness.unready("stopping");
    stages.stop(config.drain_timeout, failed).await
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
            tracing::warn!("SIGHUP: what changed in [auth] takes a restart");
        }
        let authenticator = Arc::clone(&authenticator);
        // It fails when the runtime stops.
        match spawn_blocking(move || authenticator.reread()).await {
            Ok(Ok(())) => tracing::info!("SIGHUP: the keys for tokens were read again"),
            Ok(Err(error)) => tracing::error!(%error, "SIGHUP: the old keys for tokens stay"),
            Err(_) => return,
        }
    }
}

/// Says once where the listeners are: when clients are served, or earlier if the database is waited for.
struct Announcement {
    clients: SocketAddr,
    admin: SocketAddr,
    bound: Option<oneshot::Sender<(SocketAddr, SocketAddr)>>,
    is_made: bool,
}

impl Announcement {
    fn make(&mut self) {
        if self.is_made {
            return;
        }
        self.is_made = true;
        tracing::info!(listen = %self.clients, admin_listen = %self.admin, "listening");
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
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Listeners> {
        let descriptors = descriptors::raise();
        let clients = Server::bind(config.listen, config.http).await;
        let mut clients =
            clients.with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
        let wanted = config.http.max_connections;
        let snapshots = config.bridge.snapshots.max_connections;
        let connections = descriptors::connections(wanted, descriptors, snapshots);
        if let Some(descriptors) = descriptors.filter(|_| connections < wanted) {
            tracing::warn!(
                "the limit on open files is {descriptors}: at most {connections} connections instead of {wanted} \
                 (--max-connections); raise it by LimitNOFILE= in the systemd unit, or ulimit -H -n"
            );
            clients.limit_connections(connections);
        }
        let admin = Server::bind(config.admin_listen, ADMIN).await;
        let admin =
            admin.with_context(|| format!("cannot listen on {} (--admin-listen)", config.admin_listen))?;
        Ok(Listeners { clients, admin })
    }
}
