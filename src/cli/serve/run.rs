//! `walcast serve` at work.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::config_file::Loaded;
use super::super::signals::{Hangup, cancel_on_signals};
use super::super::{WrongFlags, reload};
use super::Command;
use crate::app;
use crate::config::Access;

/// Time that questions to the database get to end when everything else has.
const QUESTIONS_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why a configuration that says who may see what is not served: nothing here holds clients to it yet, and
/// silence would promise that.
pub(crate) fn unenforced(access: &Access) -> Option<anyhow::Error> {
    let at = access.auth.as_ref()?.at.start;
    let path = access.source.path().display();
    let place = access.source.place(at);
    Some(anyhow::anyhow!(
        "{path}:{}:{}: this version of walcast does not enforce [auth] and [[policy]] yet, and does not start with them: \
         everybody would see everything",
        place.line,
        place.column
    ))
}

pub(crate) fn run(args: &Command, loaded: Option<Loaded>) -> anyhow::Result<ExitCode> {
    let access = loaded.as_ref().map(|loaded| Arc::clone(&loaded.file.access));
    let access = access.unwrap_or_default();
    let mut config = args.args.config(&access)?;
    if let Some(unenforced) = unenforced(&access) {
        return Err(WrongFlags(unenforced).into());
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let hung_up = Arc::new(Notify::new());
        cancel_on_signals(&stop, Hangup::Reloads(Arc::clone(&hung_up)))?;
        let (reload, changed) = watch::channel(access);
        config.reload = changed;
        tokio::spawn(reload::run(loaded, reload, hung_up));
        app::serve(config, None, None, stop).await
    });
    // A question that a database does not answer is not waited for: nothing that must be finished is left.
    runtime.shutdown_timeout(QUESTIONS_TIMEOUT);
    served.map(|()| ExitCode::SUCCESS)
}
