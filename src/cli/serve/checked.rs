//! From flags to the options of those who run: what no flag alone can tell is checked here.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use super::super::WrongFlags;
use super::{Args, Clients, Listen, PluginName, Source, Switch};
use crate::app::Config;
use crate::config::Access;
use crate::journal::{self, Retention};
use crate::keys;
use crate::postgres::{ConnInfo, Plugin, Requirements};
use crate::{bridge, http, ingest, session, snapshot};

/// Amount that the kernel may buffer for one client: the backlog of a slow one belongs into the journal.
const SOCKET_SEND_BUFFER: usize = 64 * 1024;

impl Source {
    pub(crate) fn conninfo(&self) -> anyhow::Result<ConnInfo> {
        ConnInfo::parse(&self.database_url.0).context("--database-url")
    }

    pub(crate) fn wanted(&self) -> Requirements {
        let names = self.publication.iter().flat_map(|names| &names.0);
        Requirements {
            slot: self.slot.clone(),
            publications: names.cloned().collect(),
            plugin: match self.plugin {
                PluginName::Pgoutput => Plugin::Pgoutput,
                PluginName::Wal2json => Plugin::Wal2json,
            },
            create_slot: self.create_slot || self.recreate_slot,
            recreate_slot: self.recreate_slot,
            create_publication: self.create_publication,
        }
    }
}

impl Args {
    /// The same, checked and ready to be used.
    pub(crate) fn config(&self, access: &Access) -> Result<Config, WrongFlags> {
        self.checked(access).map_err(WrongFlags)
    }

    fn checked(&self, access: &Access) -> anyhow::Result<Config> {
        self.listen.is_allowed(access)?;
        Ok(Config {
            listen: self.listen.listen,
            admin_listen: self.listen.admin_listen,
            origins: http::Origins::new(self.listen.allow_origin.clone()),
            http: self.listen.options(),
            drain_timeout: self.clients.drain_timeout,
            reload: watch::channel(Arc::new(access.clone())).1,
            bridge: self.bridge()?,
            auth: access
                .auth
                .as_ref()
                .map(|auth| keys::Options::of(auth, self.clients.auth_timeout)),
        })
    }

    fn bridge(&self) -> anyhow::Result<bridge::Options> {
        let session = self.clients.options()?;
        let ingest = self.ingest()?;
        Ok(bridge::Options {
            create_publication: self.source.create_publication,
            data_dir: self.journal.data_dir.clone(),
            journal: journal::Options {
                segment_bytes: self.journal.segment_bytes.as_u64(),
                database_made_anew: ingest.recreate_slot,
                ..journal::Options::default()
            },
            retention: Retention {
                max_bytes: Some(self.journal.retention_bytes.as_u64()),
                max_age: Some(self.journal.retention_age),
            },
            snapshots: self.snapshots(&ingest, &session)?,
            session,
            auth: None,
            ingest: Arc::new(ingest),
        })
    }

    fn ingest(&self) -> anyhow::Result<ingest::Options> {
        let Requirements {
            slot,
            publications,
            plugin,
            create_slot,
            recreate_slot,
            create_publication: _,
        } = self.source.wanted();
        let messages: Vec<String> = self
            .reading
            .messages
            .iter()
            .flat_map(|names| names.0.clone())
            .collect();
        anyhow::ensure!(
            messages.is_empty() || plugin == Plugin::Pgoutput,
            "--messages needs --plugin pgoutput: wal2json is not asked for logical messages"
        );
        Ok(ingest::Options {
            conninfo: self.source.conninfo()?,
            slot,
            plugin,
            create_slot,
            recreate_slot,
            max_slot_lag: self.reading.max_slot_lag.map(|size| size.as_u64()),
            standby_window: self.reading.standby_window,
            publications,
            spool_dir: self.journal.data_dir.join("spool"),
            received_dir: self.journal.data_dir.join("received"),
            streaming: self.reading.streaming == Switch::On,
            max_spool_bytes: self.journal.max_spool_bytes.as_u64(),
            messages,
            max_row_bytes: self
                .journal
                .max_row_bytes
                .as_u64()
                .try_into()
                .unwrap_or(usize::MAX),
        })
    }

    /// Snapshots are of the rows that ingest delivers, in frames like a session's.
    fn snapshots(
        &self,
        ingest: &ingest::Options,
        session: &session::Options,
    ) -> anyhow::Result<snapshot::Options> {
        let flags = &self.snapshots;
        let url = flags.snapshot_url.as_ref().map(|url| &*url.0);
        let standby = url.map(ConnInfo::parse).transpose().context("--snapshot-url")?;
        let standby = standby.map(|info| info.agreeing_with(&ingest.conninfo));
        Ok(snapshot::Options {
            conninfo: standby.unwrap_or_else(|| ingest.conninfo.clone()),
            primary: ingest.conninfo.clone(),
            publications: ingest.publications.clone(),
            max_connections: flags.max_snapshots,
            timeout: flags.snapshot_timeout,
            max_bytes: flags.max_snapshot_bytes.as_u64(),
            max_row_bytes: ingest.max_row_bytes,
            max_frame_bytes: session.max_frame_bytes,
            dir: self.journal.data_dir.join("snapshots"),
        })
    }
}

impl Listen {
    /// Fails if everybody on a network could read everything, and that was not asked for.
    fn is_allowed(&self, access: &Access) -> anyhow::Result<()> {
        let is_own = self.listen.ip().to_canonical().is_loopback();
        anyhow::ensure!(
            is_own || access.auth.is_some() || self.insecure,
            "--listen {} is no loopback address, and without [auth] in the configuration file everybody who reaches it \
             reads everything that is published: listen on 127.0.0.1 or [::1], or say --insecure (insecure = true)",
            self.listen
        );
        Ok(())
    }

    fn options(&self) -> http::Options {
        http::Options {
            max_connections: self.max_connections,
            handshake_timeout: self.handshake_timeout,
            send_buffer_bytes: SOCKET_SEND_BUFFER,
        }
    }
}

impl Clients {
    fn options(&self) -> anyhow::Result<session::Options> {
        anyhow::ensure!(
            self.ping_interval < self.pong_timeout,
            "--ping-interval must be below --pong-timeout"
        );
        Ok(session::Options {
            limits: session::Limits {
                max_subscriptions: self.max_subscriptions,
                ping_interval: self.ping_interval,
                pong_timeout: self.pong_timeout,
            },
            outbox_bytes: self.send_buffer_bytes.as_u64() as usize,
            max_frame_bytes: self.max_frame_bytes.as_u64() as usize,
            progress_interval: self.progress_interval,
            stall_timeout: self.stall_timeout,
            spread: self.reconnect_spread,
        })
    }
}
