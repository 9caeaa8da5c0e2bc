//! `walcast serve` at work.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::config::Loaded;
use super::super::reload;
use super::super::signals::{Hangup, cancel_on_signals};
use super::Command;
use crate::app;

/// Time that questions to the database get to end when everything else has.
const QUESTIONS_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Command, loaded: Option<Loaded>) -> anyhow::Result<ExitCode> {
    let access = loaded.as_ref().map(|loaded| Arc::clone(&loaded.file.access));
    let access = access.unwrap_or_default();
    let sources = loaded
        .as_ref()
        .map(Loaded::sources)
        .transpose()?
        .unwrap_or_default();
    let mut config = args.args.config(&sources, &access)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let hung_up = Arc::new(Notify::new());
        cancel_on_signals(&stop, Hangup::Reloads(Arc::clone(&hung_up)))?;
        let (access, changed) = watch::channel(access);
        config.reload = changed;
        let policies = config.sources.iter_mut().map(|source| {
            let (policies, changed) = watch::channel(Arc::clone(&source.bridge.policies.borrow()));
            source.bridge.policies = changed;
            (source.name.clone(), policies)
        });
        let policies = policies.collect();
        let readers = reload::Readers { access, policies };
        let notifier = app::Notifier::of_environment();
        config.notifier = notifier.clone();
        tokio::spawn(reload::run(loaded, readers, hung_up, notifier));
        app::serve(config, None, None, stop).await
    });
    // A question that a database does not answer is not waited for: nothing that must be finished is left.
    runtime.shutdown_timeout(QUESTIONS_TIMEOUT);
    served.map(|()| ExitCode::SUCCESS)
}
