//! [`Host`]: the threads that sessions run on.
//!
//! A session with live subscriptions whose client sends little runs on the threads of all. It starts on threads of lower
//! priority until it is live for the first time, and comes back to them while its client sends many messages: where
//! there are not processors enough, those who connect and ask for much wait for themselves, and nobody for them.
//!
//! Passing on what is read from the journal counts as little: a session that has been live stays where it is while its
//! client is behind. That client must come to the head even where writers and other clients take all that there is, and
//! its pool of readers is small.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// The threads that sessions run on, and their tasks.
#[derive(Clone, Debug)]
pub struct Host {
    /// The threads of all.
    pub live: Handle,
    /// Those of lower priority.
    pub background: Handle,
    /// The tasks of all sessions.
    pub sessions: TaskTracker,
}

/// Says whether a session asks for much, so that it belongs in the background. It does at first.
#[derive(Clone, Debug)]
pub struct Effort(Arc<AtomicBool>);

impl Effort {
    fn new() -> Effort {
        Effort(Arc::new(AtomicBool::new(true)))
    }

    /// Notes whether it asks for much.
    pub(super) fn is_much(&self, much: bool) {
        // No memory depends on it.
        self.0.store(much, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Host {
    /// Runs a session, in the background at first.
    pub fn spawn<F>(&self, session: impl FnOnce(Effort) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let effort = Effort::new();
        self.place(Hosted {
            session: Some(Box::pin(session(effort.clone()))),
            effort,
            is_in_background: true,
            host: self.clone(),
        });
    }

    fn place(&self, hosted: Hosted) {
        let runtime = if hosted.is_in_background {
            &self.background
        } else {
            &self.live
        };
        self.sessions.spawn_on(hosted, runtime);
    }
}

/// A session where it runs.
struct Hosted {
    /// `None` once it has moved.
    session: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    effort: Effort,
    is_in_background: bool,
    host: Host,
}

impl Future for Hosted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // Its timers are those of the threads of all wherever it is, since a timer does not move.
        let _live = this.is_in_background.then(|| this.host.live.enter());
        let Some(session) = &mut this.session else {
            return Poll::Ready(());
        };
        if session.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let belongs = this.effort.get();
        if belongs == this.is_in_background {
            return Poll::Pending;
        }
        // What would wake this task from now on is asked for again there, with the first poll.
        this.host.place(Hosted {
            session: this.session.take(),
            effort: this.effort.clone(),
            is_in_background: belongs,
            host: this.host.clone(),
        });
        Poll::Ready(())
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.is_in_background {
            "background"
        } else {
            "live"
        };
        f.debug_struct("Hosted")
            .field("place", &place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc;

    use super::*;

    fn runtime(name: &str) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all();
        builder.build().unwrap()
    }

    #[test]
    fn a_session_moves_with_what_it_asks_for_and_loses_nothing() {
        let (live, background) = (runtime("live"), runtime("background"));
        let host = Host {
            live: live.handle().clone(),
            background: background.handle().clone(),
            sessions: TaskTracker::new(),
        };
        let (asks, mut asked) = mpsc::channel::<bool>(1);
        let (tells, mut told) = mpsc::channel(1);
        host.spawn(|effort| async move {
            while let Some(much) = asked.recv().await {
                effort.is_much(much);
                let thread = std::thread::current();
                tells
                    .send(thread.name().unwrap_or_default().to_owned())
                    .await
                    .unwrap();
                // It moves when it waits.
                tokio::task::yield_now().await;
            }
        });
        let mut places = Vec::new();
        for much in [true, false, false, true, true, false] {
            asks.blocking_send(much).unwrap();
            places.push(told.blocking_recv().unwrap());
        }
        // What was asked for shows with the next message.
        assert_eq!(
            places,
            [
                "background",
                "background",
                "live",
                "live",
                "background",
                "background"
            ]
        );
        drop(asks);
        host.sessions.close();
        live.block_on(host.sessions.wait());
    }
}
