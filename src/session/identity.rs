//! The identity of a client while it is connected: its next token, the word that it needs one, and the end of its time.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Sleep;

use super::cursor::Input;
use super::{End, Session};
use crate::auth::{Rejection, Subject};
use crate::log::Log;
use crate::protocol::{CloseCode, ErrorCode, ErrorMessage, ServerMessage, Token};

/// The time before a token's end at which its client is told.
const WARNING: Duration = Duration::from_secs(30);
/// The longest sleep: after it the clock is looked at again, which may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A token that is being verified.
type Verifying = Pin<Box<dyn Future<Output = Result<Arc<Subject>, Rejection>> + Send>>;

/// The state of a client's token.
pub(super) struct Identity {
    /// The end of its time.
    expires: watch::Sender<Option<SystemTime>>,
    /// The time to tell that this is near; `None` once it was told.
    warning: Option<Pin<Box<Sleep>>>,
    verifying: Option<Verifying>,
    /// The ids of subscriptions that end because of a new token.
    revoked: Vec<Arc<str>>,
}

/// Something that is known of a client's token now.
pub(super) enum Known {
    /// Its new token was verified.
    Verified(Result<Arc<Subject>, Rejection>),
    /// Its time is over soon.
    Expiring,
}

impl Identity {
    /// In a box: where no tokens are asked for there is none.
    pub(super) fn of(subject: &Subject) -> Box<Identity> {
        Box::new(Identity {
            warning: subject.expires.map(warning),
            expires: watch::Sender::new(subject.expires),
            verifying: None,
            revoked: Vec::new(),
        })
    }

    /// Waits for the end of its time. A session is ended by it wherever it is, also while it waits for its client.
    pub(super) fn expired(&self) -> impl Future<Output = ()> + use<> {
        expiry(self.expires.subscribe())
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

    /// Takes another token's time.
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

/// The words for a token that is not accepted, and the close code behind them. They tell nothing of the token.
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

/// The words for a subscription that a new token may not have.
pub(super) fn forbidden(id: &str) -> ErrorMessage {
    let message = "the new token says something else than the old one: subscribe again";
    ErrorMessage::new(ErrorCode::Forbidden, message).about(id)
}

/// True if two tokens of a subject differ in their own times and numbers alone, by which nothing is decided.
fn say_the_same(one: &Subject, other: &Subject) -> bool {
    one.role == other.role && one.claims.without(&OF_THE_TOKEN) == other.claims.without(&OF_THE_TOKEN)
}

/// Claims that each token has of its own.
const OF_THE_TOKEN: [&str; 4] = ["exp", "iat", "nbf", "jti"];

impl<H: Log> Session<H> {
    /// Has a token verified. Nothing more is read from the client until it is.
    pub(super) fn verify(&mut self, token: Token) {
        let (Some(auth), Some(identity)) = (self.shared.auth.clone(), &mut self.identity) else {
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
                tracing::info!(connection, %reason, "a token was refused");
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

    /// Takes another token of the same subject, or the first of a client that had none.
    async fn replace(&mut self, subject: Arc<Subject>) -> Result<(), End> {
        let before = self.caller.subject.replace(Arc::clone(&subject));
        if let Some(before) = before {
            if !before.is_anonymous() && before.subject != subject.subject {
                self.caller.subject = Some(before);
                let message = "the token is of another subject than this connection: connect anew with it";
                self.wire
                    .error(&ErrorMessage::new(ErrorCode::Forbidden, message))
                    .await?;
                return Ok(());
            }
            if !say_the_same(&before, &subject) {
                self.revoke().await?;
            }
        }
        let connection = self.caller.connection;
        tracing::debug!(connection, subject = %subject.fingerprint(), "a token was replaced");
        if let Some(identity) = &mut self.identity {
            identity.renew(subject.expires);
        }
        Ok(())
    }

    /// Ends every subscription: they were judged by what the client was.
    async fn revoke(&mut self) -> Result<(), End> {
        for id in self.machine.ids().to_vec() {
            self.machine.revoke(&id);
            if let Some(identity) = &mut self.identity {
                identity.revoked.push(Arc::clone(&id));
            }
            self.feed(Input::Unsubscribe(id)).await?;
        }
        Ok(())
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

    #[test]
    fn tokens_say_the_same_if_they_differ_in_their_own_times_and_numbers_alone() {
        let before = subject(json!({"tenant": 1, "exp": 1, "iat": 1, "nbf": 1, "jti": "a"}));
        let later = subject(json!({"tenant": 1, "exp": 2, "iat": 2, "jti": "b"}));
        assert!(say_the_same(&before, &later));
        assert!(!say_the_same(&before, &subject(json!({"tenant": 2, "exp": 1}))));
        assert!(!say_the_same(&before, &subject(json!({"exp": 1}))));
        let mut risen = later.clone();
        risen.role = None;
        assert!(!say_the_same(&later, &risen));
    }

    #[tokio::test]
    async fn a_token_ends_when_its_time_does_unless_another_comes() {
        let mut ending = subject(json!({}));
        ending.expires = Some(SystemTime::now() + Duration::from_millis(50));
        let mut identity = Identity::of(&ending);
        identity.expired().await;
        assert!(ending.expires.is_some_and(|at| at <= SystemTime::now()));
        // It has been told by then, or is now.
        assert!(matches!(
            std::future::poll_fn(|cx| identity.poll(cx)).await,
            Known::Expiring
        ));
        let over = identity.expired();
        identity.renew(Some(SystemTime::now() + Duration::from_secs(3600)));
        assert!(futures_util::FutureExt::now_or_never(over).is_none());
    }
}
