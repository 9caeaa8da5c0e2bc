//! From flags to the options of those who run: what no flag alone can tell is checked here.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use super::super::WrongFlags;
use super::{Args, Clients, Limits, PluginName, Source, SourceArgs, Switch};
use crate::app::{self, Config, Notifier};
use crate::config::{Access, SourceName};
use crate::journal::{self, Retention};
use crate::keys;
use crate::policy::Policies;
use crate::postgres::{ConnInfo, Plugin, Requirements};
use crate::{bridge, http, ingest, session, snapshot};

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
    /// The same, checked and ready to be used. `sources` are those of the file; without any, these flags have the one.
    pub(crate) fn config(
        &self,
        sources: &[(SourceName, SourceArgs)],
        access: &Access,
    ) -> Result<Config, WrongFlags> {
        self.checked(sources, access).map_err(WrongFlags)
    }

    fn checked(&self, sources: &[(SourceName, SourceArgs)], access: &Access) -> anyhow::Result<Config> {
        self.listen.is_allowed(access)?;
        let session = self.clients.options(&self.limits)?;
        let one = self.source.get().filter(|_| sources.is_empty());
        let named = sources.iter().map(|(name, flags)| (Some(name), flags));
        let sources = one.map(|flags| (None, flags)).into_iter().chain(named);
        let sources = sources.map(|(name, flags)| {
            let bridge = flags.bridge(session, &access.of_source(name));
            let bridge = match name {
                Some(name) => bridge.with_context(|| format!("[[source]] {name}"))?,
                None => bridge?,
            };
            Ok(app::Source {
                name: name.cloned(),
                bridge,
            })
        });
        let sources = sources.collect::<anyhow::Result<Vec<_>>>()?;
        are_apart(&sources)?;
        Ok(Config {
            listen: self.listen.listen,
            admin_listen: self.listen.admin_listen,
            admin: self.listen.admin(),
            origins: http::Origins::new(self.listen.allow_origin.clone()),
            http: self.listen.options()?,
            max_unauthenticated: self.listen.max_unauthenticated(),
            certificate: self.listen.certificate()?,
            drain_timeout: self.clients.drain_timeout,
            // Set by whoever runs it.
            notifier: Notifier::default(),
            reload: watch::channel(Arc::new(access.clone())).1,
            sources,
            shared: session::Shared::new(&session),
            auth: access
                .auth
                .as_ref()
                .map(|auth| keys::Options::of(auth, self.clients.auth_timeout)),
        })
    }
}

/// Fails if two sources would keep their journals in one directory, or read one slot.
fn are_apart(sources: &[app::Source]) -> anyhow::Result<()> {
    for (index, source) in sources.iter().enumerate() {
        let Some(name) = &source.name else { continue };
        for other in sources.iter().take(index) {
            let other_name = other.name.as_ref().map_or("", SourceName::as_str);
            let (own, other) = (&source.bridge, &other.bridge);
            anyhow::ensure!(
                own.data_dir != other.data_dir,
                "[[source]] {name}: its data_dir is that of {other_name}: a journal belongs to one database and one slot"
            );
            // The names of slots are the server's.
            let is_same_slot = own.ingest.slot == other.ingest.slot
                && own.ingest.conninfo.hosts == other.ingest.conninfo.hosts;
            anyhow::ensure!(
                !is_same_slot,
                "[[source]] {name}: its slot is that of {other_name}: each source reads one of its own"
            );
        }
    }
    Ok(())
}

impl SourceArgs {
    fn bridge(&self, session: session::Options, access: &Access) -> anyhow::Result<bridge::Options> {
        let ingest = self.ingest()?;
        Ok(bridge::Options {
            create_publication: self.source.create_publication,
            data_dir: self.journal.data_dir.clone(),
            journal: journal::Options {
                segment_bytes: self.journal.segment_bytes.as_u64(),
                accepts_recreated_database: ingest.recreate_slot,
                ..journal::Options::default()
            },
            retention: Retention {
                max_bytes: Some(self.journal.retention_bytes.as_u64()),
                max_age: Some(self.journal.retention_age),
            },
            snapshots: self.snapshots(&ingest, &session)?,
            session,
            auth: None,
            policies: watch::channel(Arc::new(Policies::of(access)?)).1,
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

impl Clients {
    fn options(&self, limits: &Limits) -> anyhow::Result<session::Options> {
        anyhow::ensure!(
            self.ping_interval < self.pong_timeout,
            "--ping-interval must be below --pong-timeout"
        );
        Ok(session::Options {
            limits: session::Limits {
                max_subscriptions: limits.max_subscriptions,
                ping_interval: self.ping_interval,
                pong_timeout: self.pong_timeout,
                messages: limits.messages(),
                subscribes: limits.subscribes(),
            },
            subjects: limits.subjects(),
            max_replays_of_subject: limits.max_replays_per_subject,
            total_subscribes: limits.total_subscribes(),
            total_messages: limits.total_messages(),
            send_rate: limits.send_rate(),
            outbox_bytes: self.send_buffer_bytes.as_u64() as usize,
            max_frame_bytes: self.max_frame_bytes.as_u64() as usize,
            progress_interval: self.progress_interval,
            stall_timeout: self.stall_timeout,
            message_timeout: self.message_timeout,
            spread: self.reconnect_spread,
        })
    }
}
