//! SIGHUP: reading files again while `serve` runs.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use super::config::Loaded;
use crate::app::Notifier;
use crate::config::{Access, Errors, SourceName};
use crate::policy::Policies;

/// Those who hear of what was read.
pub(super) struct Readers {
    /// Also of the same: files that it names may be others now.
    pub(super) access: watch::Sender<Arc<Access>>,
    /// Only of others, those of a source each.
    pub(super) policies: Vec<(Option<SourceName>, watch::Sender<Arc<Policies>>)>,
}

/// Reads the configuration file again whenever it is asked to, and tells the readers. A file that is wrong changes
/// nothing. `notifier` hears when reading begins, and when it is through.
pub(super) async fn run(loaded: Option<Loaded>, readers: Readers, hung_up: Arc<Notify>, notifier: Notifier) {
    let loaded = loaded.map(Arc::new);
    loop {
        hung_up.notified().await;
        notifier.reloading();
        reload(loaded.clone(), &readers).await;
        notifier.reloaded();
    }
}

async fn reload(loaded: Option<Arc<Loaded>>, readers: &Readers) {
    let Some(loaded) = loaded else {
        tracing::info!(
            event = "configuration_absent",
            "SIGHUP: there is no configuration file (--config): flags are read at the start alone"
        );
        readers.access.send_modify(|_same| {});
        return;
    };
    // It fails when the runtime stops.
    let sources: Vec<Option<SourceName>> = readers.policies.iter().map(|(name, _)| name.clone()).collect();
    let Ok(Some((access, policies))) = spawn_blocking(move || reread(&loaded, &sources)).await else {
        return;
    };
    let mut is_any_new = false;
    for ((_, reader), policies) in readers.policies.iter().zip(policies) {
        is_any_new |= reader.send_if_modified(|held| {
            let is_new = **held != policies;
            if is_new {
                *held = Arc::new(policies);
            }
            is_new
        });
    }
    if is_any_new {
        tracing::info!(
            event = "policies_changed",
            "SIGHUP: the policies have changed: live subscriptions are judged again"
        );
    }
    readers.access.send_replace(access);
}

/// Reads the file again and logs what comes of it: who may see what, and the policies of each source. `None` if nothing may
/// be taken from it.
fn reread(loaded: &Loaded, sources: &[Option<SourceName>]) -> Option<(Arc<Access>, Vec<Policies>)> {
    let path = loaded.path.display();
    let read = loaded.reread().and_then(|(access, changed)| {
        let policies = sources
            .iter()
            .map(|source| Policies::of(&access.of_source(source.as_ref())));
        let policies = policies.collect::<Result<Vec<_>, _>>()?;
        Ok((access, policies, changed))
    });
    match read {
        Ok((access, policies, changed)) => {
            let changed: Vec<String> = changed.into_iter().collect();
            if changed.is_empty() {
                tracing::info!(
                    event = "configuration_reloaded", config = %path,
                    "SIGHUP: configuration read again"
                );
            } else {
                tracing::warn!(
                    event = "configuration_reloaded",
                    config = %path,
                    changed = changed.join(", "),
                    "SIGHUP: configuration read again; flags that changed take a restart"
                );
            }
            if access.auth.is_some() && loaded.file.access.auth.is_none() {
                tracing::error!(
                    event = "auth_not_enforced",
                    config = %path,
                    "SIGHUP: [auth] takes a restart: until then everybody still sees everything that is published"
                );
            }
            Some((access, policies))
        }
        Err(error) => {
            match error.downcast_ref::<Errors>() {
                Some(errors) => errors
                    .0
                    .iter()
                    .for_each(|error| tracing::error!(event = "configuration_error", %error, "SIGHUP")),
                None => tracing::error!(
                    event = "configuration_error",
                    error = format!("{error:#}"),
                    "SIGHUP"
                ),
            }
            tracing::error!(
                event = "configuration_rejected", config = %path,
                "SIGHUP: the configuration is wrong: all stays as it was"
            );
            None
        }
    }
}
