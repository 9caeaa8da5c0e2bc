//! The identity of a connected client: its token's expiry, the warning before it, and its replacement by another token.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::cursor::Input;
use super::ids::Ids;
use super::{End, Session};
use crate::auth::{Rejection, Subject};
use crate::log::Log;
use crate::matching::Subscription;
use crate::policy::Policies;
use crate::protocol::{CloseCode, ErrorCode, ErrorMessage, ServerMessage, Token};
use crate::telemetry::Failures;

/// The time before a token expires at which its client is warned.
const WARNING: Duration = Duration::from_secs(30);
/// The longest sleep. After it the clock is read again, since it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The reasons for which tokens were refused lately, as far as the log was told.
static REFUSED: Mutex<Failures> = Mutex::new(Failures::new());

/// A token that is being verified.
type Verifying = Pin<Box<dyn Future<Output = Result<Arc<Subject>, Rejection>> + Send>>;

/// The state of a client's token.
pub(super) struct Identity {
    /// The time at which it expires.
    expires: watch::Sender<Option<SystemTime>>,
    /// The time to warn the client; `None` once it was warned.
    warning: Option<Pin<Box<Sleep>>>,
    verifying: Option<Verifying>,
    /// The policies by which subscriptions are judged.
    policies: watch::Receiver<Arc<Policies>>,
    /// Changes whenever the database's own policies do.
    security: watch::Receiver<u64>,
    /// The subscriptions that were judged; also some that are over.
    judged: Vec<Arc<Subscription>>,
    /// The ids of subscriptions that end because their client may see something else now.
    revoked: Vec<Arc<str>>,
}

/// News of a client's token.
pub(super) enum Known {
    /// Its new token was verified.
    Verified(Result<Arc<Subject>, Rejection>),
    /// It expires soon.
    Expiring,
}

impl Identity {
    /// Boxed, since a session without a token has none.
    pub(super) fn of(
        subject: &Subject,
        policies: &watch::Receiver<Arc<Policies>>,
        security: watch::Receiver<u64>,
    ) -> Box<Identity> {
        Box::new(Identity {
            warning: subject.expires.map(warning),
            expires: watch::Sender::new(subject.expires),
            verifying: None,
            policies: policies.clone(),
            security,
            judged: Vec::new(),
            revoked: Vec::new(),
        })
    }

    /// Completes when the token expires. This ends a session at any point, even while it waits for its client.
    pub(super) fn expired(&self) -> impl Future<Output = ()> + use<> {
        expiry(self.expires.subscribe())
    }

    /// True if policies have changed since the client's subscriptions were judged.
    pub(super) fn is_outdated(&self) -> bool {
        // The senders may be gone when walcast stops.
        let has_changed = self.policies.has_changed().unwrap_or(false);
        has_changed || self.security.has_changed().unwrap_or(false)
    }

    /// Notes a subscription that was judged just now.
    pub(super) fn note(&mut self, subscription: &Arc<Subscription>, ids: &Ids) {
        self.judged.retain(|judged| ids.holds(&judged.id));
        self.judged.push(Arc::clone(subscription));
    }

    /// True while a token is being verified.
    pub(super) fn is_verifying(&self) -> bool {
        self.verifying.is_some()
    }

    /// True, once, if the subscription of this id ended because of a new token.
    pub(super) fn was_revoked(&mut self, id: &Arc<str>) -> bool {
        let before = self.revoked.len();
        self.revoked.retain(|revoked| !Arc::ptr_eq(revoked, id));
        self.revoked.len() < before
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Known> {
        if let Some(verifying) = &mut self.verifying
            && let Poll::Ready(verified) = verifying.as_mut().poll(cx)
        {
            self.verifying = None;
            return Poll::Ready(Known::Verified(verified));
        }
        while let Some(sleep) = &mut self.warning {
            if sleep.as_mut().poll(cx).is_pending() {
                break;
            }
            let expires = *self.expires.borrow();
            match expires {
                Some(at) if until(at) <= WARNING => {
                    self.warning = None;
                    return Poll::Ready(Known::Expiring);
                }
                expires => self.warning = expires.map(warning),
            }
        }
        Poll::Pending
    }

    /// Takes the expiry of a new token.
    fn renew(&mut self, expires: Option<SystemTime>) {
        self.warning = expires.map(warning);
        self.expires.send_replace(expires);
    }
}

fn until(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::now()).unwrap_or_default()
}

fn warning(expires: SystemTime) -> Pin<Box<Sleep>> {
    let left = until(expires).saturating_sub(WARNING);
    Box::pin(tokio::time::sleep(left.min(LONGEST_SLEEP)))
}

async fn expiry(mut expires: watch::Receiver<Option<SystemTime>>) {
    loop {
        let left = (*expires.borrow_and_update()).map(until);
        if left == Some(Duration::ZERO) {
            return;
        }
        let passes = async {
            match left {
                Some(left) => tokio::time::sleep(left.min(LONGEST_SLEEP)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = passes => {}
            changed = expires.changed() => if changed.is_err() {
                return pending().await;
            },
        }
    }
}

/// The error and the close code for a token that is not accepted. They repeat nothing of the token.
pub(super) fn refusal(reason: Rejection) -> (ErrorMessage, CloseCode) {
    let message = format!("the token is not accepted: {reason}");
    match reason {
        Rejection::Expired => (
            ErrorMessage::new(ErrorCode::TokenExpired, message),
            CloseCode::TokenExpired,
        ),
        _ => (
            ErrorMessage::new(ErrorCode::Unauthenticated, message),
            CloseCode::Unauthenticated,
        ),
    }
}

/// The error for a subscription whose client may now see something else, or nothing.
pub(super) fn forbidden(id: &str) -> ErrorMessage {
    let message =
        "this client may see something else of the table than before: subscribe again with a new snapshot";
    ErrorMessage::new(ErrorCode::Forbidden, message).about(id)
}

impl<H: Log> Session<H> {
    /// Starts to verify a token. Nothing more is read from the client until that is done.
    pub(super) fn verify(&mut self, token: Token) {
        let (Some(auth), Some(identity)) = (self.services.auth.clone(), &mut self.identity) else {
            debug_assert!(false, "no token is taken where none is asked for");
            return;
        };
        identity.verifying = Some(Box::pin(async move { auth.authenticate(token.reveal()).await }));
    }

    pub(super) async fn known(&mut self, known: Known) -> Result<(), End> {
        match known {
            Known::Expiring => self.expiring().await,
            Known::Verified(Ok(subject)) => self.replace(subject).await,
            Known::Verified(Err(reason)) => {
                let connection = self.caller.connection;
                // Where keys have changed, the tokens of all clients are refused.
                match REFUSED.lock().note(&reason.to_string(), 0, Instant::now()).now {
                    Some(again) => {
                        tracing::info!(event = "token_refused", connection, %reason, again, "a token was refused")
                    }
                    None => tracing::debug!(connection, %reason, "a token was refused"),
                }
                let (error, code) = refusal(reason);
                self.wire.error(&error).await?;
                Err(End::Close(code))
            }
        }
    }

    async fn expiring(&mut self) -> Result<(), End> {
        let Some(expires) = self.caller.subject.as_ref().and_then(|subject| subject.expires) else {
            return Ok(());
        };
        let expires = humantime::format_rfc3339_micros(expires).to_string();
        let message = ServerMessage::TokenExpiring { expires };
        Ok(self.wire.send(message.to_json()).await?)
    }

    /// Replaces the token by another one of the same subject, or by the first of an anonymous client.
    async fn replace(&mut self, subject: Arc<Subject>) -> Result<(), End> {
        let before = self.caller.subject.replace(Arc::clone(&subject));
        if let Some(before) = before
            && !before.is_anonymous()
            && before.subject != subject.subject
        {
            self.caller.subject = Some(before);
            let message =
                "the token is of another subject than this connection: open another connection for it";
            self.wire
                .error(&ErrorMessage::new(ErrorCode::Forbidden, message))
                .await?;
            return Ok(());
        }
        // A client that was anonymous counts towards the subject's limits from now on.
        let (address, connection) = (self.caller.client, self.caller.connection);
        if let Some(member) =
            self.services
                .shared
                .subjects
                .change(&self.member, &subject, address, connection)
        {
            self.member = member.map_err(|_| End::Close(CloseCode::OverLimit))?;
            let counted = (0..self.guard.ids().len()).try_for_each(|_| self.member.subscribe());
            let counted = counted.and_then(|()| self.member.keep_predicates(self.guard.predicate_bytes()));
            counted.map_err(|_| End::Close(CloseCode::OverLimit))?;
        }
        self.revoke().await?;
        tracing::debug!(connection, subject = %subject.fingerprint(), "a token was replaced");
        if let Some(identity) = &mut self.identity {
            identity.renew(subject.expires);
        }
        self.wire.seen.is_of(Some(subject));
        Ok(())
    }

    /// Judges all subscriptions again if policies have changed. True if some of them ended: nothing that was made for
    /// the client before may be sent.
    pub(super) async fn judge_again(&mut self) -> Result<bool, End> {
        match &mut self.identity {
            Some(identity) if identity.is_outdated() => {
                identity.policies.mark_unchanged();
                identity.security.mark_unchanged();
            }
            _ => return Ok(false),
        }
        Box::pin(self.revoke()).await
    }

    /// Ends the subscriptions of which the client may see something else now than when they were judged. True if there
    /// were any: everything that waits for the client is dropped, and the other subscriptions read it again.
    async fn revoke(&mut self) -> Result<bool, End> {
        let Some(identity) = &mut self.identity else {
            return Ok(false);
        };
        let ids = self.guard.ids();
        identity.judged.retain(|judged| ids.holds(&judged.id));
        let (services, caller) = (&self.services, &self.caller);
        let mut revoked = Vec::new();
        for judged in std::mem::take(&mut identity.judged) {
            if services.is_judged_alike(&judged.query, caller).await {
                identity.judged.push(judged)
            } else {
                revoked.push(judged)
            }
        }
        if revoked.is_empty() {
            return Ok(false);
        }
        if let Some(registration) = &self.registration {
            registration.outbox.put_behind();
        }
        self.feed(Input::Discard).await?;
        for Subscription { id, .. } in revoked.iter().map(|revoked| &**revoked) {
            self.guard.revoke(id);
            if let Some(identity) = &mut self.identity {
                identity.revoked.push(Arc::clone(id));
            }
            self.feed(Input::Unsubscribe(Arc::clone(id))).await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Claims;

    fn subject(claims: serde_json::Value) -> Subject {
        let serde_json::Value::Object(claims) = claims else {
            panic!("no object")
        };
        Subject {
            subject: Some("ann".into()),
            role: Some("customer".into()),
            expires: Some(SystemTime::now()),
            claims: Claims::new(claims),
        }
    }

    #[tokio::test]
    async fn a_token_ends_when_its_time_does_unless_another_comes() {
        let mut ending = subject(json!({}));
        ending.expires = Some(SystemTime::now() + Duration::from_millis(50));
        let mut identity = Identity::of(&ending, &watch::channel(Arc::default()).1, watch::channel(0).1);
        identity.expired().await;
        assert!(ending.expires.is_some_and(|at| at <= SystemTime::now()));
        // The warning has been given by then, or is due now.
        assert!(matches!(
            std::future::poll_fn(|cx| identity.poll(cx)).await,
            Known::Expiring
        ));
        let over = identity.expired();
        identity.renew(Some(SystemTime::now() + Duration::from_secs(3600)));
        assert!(futures_util::FutureExt::now_or_never(over).is_none());
    }
}
