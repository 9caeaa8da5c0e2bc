//! SIGHUP: reading files again while `serve` runs.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use super::config_file::Loaded;
use super::serve::unenforced;
use crate::config::{Access, Errors};

/// Reads the configuration file again whenever it is asked to, and tells those who wait for `reload`. A file that is
/// wrong changes nothing.
pub(super) async fn run(loaded: Option<Loaded>, reload: watch::Sender<Arc<Access>>, hung_up: Arc<Notify>) {
    let loaded = loaded.map(Arc::new);
    loop {
        hung_up.notified().await;
        let Some(loaded) = loaded.clone() else {
            tracing::info!(
                "SIGHUP: there is no configuration file (--config): flags are read at the start alone"
            );
            reload.send_modify(|_same| {});
            continue;
        };
        // It fails when the runtime stops.
        let Ok(read) = spawn_blocking(move || reread(&loaded)).await else {
            return;
        };
        if let Some(access) = read {
            reload.send_replace(access);
        }
    }
}

/// Reads the file again and logs what comes of it. `None` if nothing may be taken from it.
fn reread(loaded: &Loaded) -> Option<Arc<Access>> {
    let path = loaded.path.display();
    let read = loaded
        .reread()
        .and_then(|(access, changed)| match unenforced(&access) {
            Some(unenforced) => Err(unenforced),
            None => Ok((access, changed)),
        });
    match read {
        Ok((access, changed)) => {
            let changed: Vec<String> = changed.into_iter().collect();
            if changed.is_empty() {
                tracing::info!(config = %path, "SIGHUP: configuration read again");
            } else {
                tracing::warn!(
                    config = %path,
                    changed = changed.join(", "),
                    "SIGHUP: configuration read again; flags that changed take a restart"
                );
            }
            Some(access)
        }
        Err(error) => {
            match error.downcast_ref::<Errors>() {
                Some(errors) => errors
                    .0
                    .iter()
                    .for_each(|error| tracing::error!(%error, "SIGHUP")),
                None => tracing::error!(error = format!("{error:#}"), "SIGHUP"),
            }
            tracing::error!(config = %path, "SIGHUP: the configuration is wrong: all stays as it was");
            None
        }
    }
}
