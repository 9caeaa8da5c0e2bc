//! [`Guard`]: checks a connection's requests, and notices when its client has been silent for too long. Pure: time is an
//! argument.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ids::Ids;
use super::predicate_costs::PredicateCosts;
use super::rates::Rates;
use crate::filter::Cost;
use crate::limit::Rate;
use crate::lsn::Position;
use crate::protocol::{
    ClientMessage, CloseCode, Detail, ErrorCode, ErrorMessage, Opening, Reference, ServerMessage, Subscribe,
    Token,
};

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most subscriptions at the same time.
    pub max_subscriptions: usize,
    /// The time of a client's silence after which it is pinged.
    pub ping_interval: Duration,
    /// The time of a client's silence after which it is given up.
    pub pong_timeout: Duration,
    /// The rate of messages, each counted by its size and its outcome.
    pub messages: Rate,
    /// The rate of `subscribe` messages.
    pub subscribes: Rate,
}

/// Bad requests in a row that close the connection.
const MAX_BAD_REQUESTS: u32 = 20;

/// A request of a client.
#[derive(Debug)]
pub(super) enum Request {
    /// Answer it with this text.
    Reply(String),
    /// Refuse it with this error.
    Refuse(ErrorMessage),
    /// Refuse it with this error, and close the connection.
    Close(ErrorMessage, CloseCode),
    /// A subscription, whose id is taken from now on.
    Subscribe(Arc<str>, Box<Subscribe>),
    /// The end of a subscription, whose id is free once the client was told so.
    Unsubscribe(Arc<str>),
    /// A token, which is not verified yet.
    Auth(Token),
    /// A pong, once the connection is complete up to a place.
    Reach(Position, Option<Reference>),
}

/// The action that is due at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A ping to the client.
    Ping,
    /// The end of a client that has been silent for too long.
    Silence,
}

/// The state of a connection apart from the data.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    /// True if the server asks for tokens.
    takes_tokens: bool,
    ids: Ids,
    costs: PredicateCosts,
    bad_requests: u32,
    heard: Instant,
    /// The time of the last ping, unless the client has sent something since.
    pinged: Option<Instant>,
    rates: Rates,
}

impl Guard {
    pub(super) fn new(limits: Limits, takes_tokens: bool, now: Instant) -> Guard {
        Guard {
            limits,
            takes_tokens,
            ids: Ids::default(),
            costs: PredicateCosts::default(),
            bad_requests: 0,
            heard: now,
            pinged: None,
            rates: Rates::new(limits.messages, limits.subscribes, now),
        }
    }

    /// The bytes that the predicates of the connection take.
    pub(super) fn predicate_bytes(&mut self) -> usize {
        self.costs.bytes(&self.ids)
    }

    /// Adds the cost of a subscription's predicate.
    ///
    /// # Errors
    /// All predicates of the connection together would take too much.
    pub(super) fn weigh(&mut self, id: &Arc<str>, cost: Cost) -> Result<(), ErrorMessage> {
        self.costs.add(id, cost, &self.ids)
    }

    /// Counts a control frame. False if the client may not send as many.
    pub(super) fn control(&mut self, now: Instant) -> bool {
        self.rates.control(now)
    }

    /// Counts a request that was refused after all.
    pub(super) fn refused(&mut self, now: Instant) {
        self.rates.refused(now);
    }

    /// True if the client has sent much lately.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.rates.is_used(now)
    }

    /// Notes that the client has sent something, if only a pong.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// The action that is due now.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let Limits {
            ping_interval,
            pong_timeout,
            ..
        } = self.limits;
        match self.pinged {
            // Counted from the ping, which is late if we were busy writing to the client.
            Some(at) if now.saturating_duration_since(at) >= pong_timeout.saturating_sub(ping_interval) => {
                Due::Silence
            }
            None if now.saturating_duration_since(self.heard) >= ping_interval => {
                self.pinged = Some(now);
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }

    /// The request in a text message. It is crowded while all clients together send more than they may.
    pub(super) fn text(&mut self, text: &str, is_crowded: bool, now: Instant) -> Request {
        let message = ClientMessage::parse(text);
        let is_subscribe = matches!(message, Ok(ClientMessage::Subscribe(_)));
        if let Err(too_early) = self.rates.admit(text.len(), is_subscribe, is_crowded, now) {
            let mut error = too_early.error();
            match message {
                // Without the id of an existing subscription, which goes on.
                Ok(ClientMessage::Subscribe(subscribe)) if !self.ids.is_known(&subscribe.id) => {
                    error.id = Some(subscribe.id);
                }
                Ok(ClientMessage::Ping { reference, .. }) => {
                    error.reference = reference.filter(Reference::is_short);
                }
                _ => {}
            }
            return self.rate_limited(error, now);
        }
        let request = match message {
            Ok(message) => self.request(message),
            Err(error) => Request::Refuse(error),
        };
        if matches!(request, Request::Auth(_)) {
            self.rates.token(now);
        }
        self.counted(request, now)
    }

    /// The answer to a binary message.
    pub(super) fn binary(&mut self, bytes: usize, is_crowded: bool, now: Instant) -> Request {
        if let Err(too_early) = self.rates.admit(bytes, false, is_crowded, now) {
            return self.rate_limited(too_early.error(), now);
        }
        let message = "messages are JSON in text frames, not binary";
        let refusal = Request::Refuse(ErrorMessage::new(ErrorCode::BadRequest, message));
        self.counted(refusal, now)
    }

    fn rate_limited(&mut self, error: ErrorMessage, now: Instant) -> Request {
        if self.rates.warns(now) {
            Request::Refuse(error)
        } else {
            Request::Close(error, CloseCode::RateLimited)
        }
    }

    /// Ends a subscription as if the client had unsubscribed it.
    pub(super) fn revoke(&mut self, id: &Arc<str>) {
        self.ids.revoke(id);
    }

    /// Frees the id of a subscription, whose end the client is told now.
    pub(super) fn free(&mut self, id: &Arc<str>) {
        self.ids.free(id);
    }

    /// The ids of the connection's subscriptions.
    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    fn request(&mut self, message: ClientMessage) -> Request {
        match message {
            ClientMessage::Ping {
                reference,
                reach: Some(place),
            } => Request::Reach(place, reference),
            ClientMessage::Ping {
                reference,
                reach: None,
            } => Request::Reply(
                ServerMessage::Pong {
                    reference: reference.as_ref(),
                    position: None,
                }
                .to_json(),
            ),
            ClientMessage::Auth { token } if self.takes_tokens => Request::Auth(token),
            ClientMessage::Auth { .. } => {
                let message = "this server asks for no token: leave auth out";
                Request::Refuse(ErrorMessage::new(ErrorCode::BadRequest, message))
            }
            ClientMessage::Unsubscribe { id } => match self.ids.end(&id) {
                Some(id) => Request::Unsubscribe(id),
                // Without the id, since the message that ends that subscription is still to come.
                None if self.ids.is_ending(&id) => {
                    let message = format!("the subscription {id:?} is being ended: wait for unsubscribed");
                    Request::Refuse(ErrorMessage::new(ErrorCode::UnknownId, message))
                }
                None => {
                    let message = format!("there is no subscription {id:?} on this connection");
                    Request::Refuse(ErrorMessage::new(ErrorCode::UnknownId, message).about(id))
                }
            },
            ClientMessage::Subscribe(subscribe) => self.subscribe(subscribe),
        }
    }

    fn subscribe(&mut self, subscribe: Box<Subscribe>) -> Request {
        let refuse = |code, message: String| {
            Request::Refuse(ErrorMessage::new(code, message).about(subscribe.id.as_str()))
        };
        if self.ids.is_used(&subscribe.id) {
            // Without the id, since an error with an id ends that subscription, and the first one goes on.
            let message = format!(
                "there is a subscription {:?} already: unsubscribe it first",
                subscribe.id
            );
            return Request::Refuse(ErrorMessage::new(ErrorCode::DuplicateId, message));
        }
        if self.ids.is_ending(&subscribe.id) {
            let message = format!(
                "the subscription {:?} is being ended: wait for unsubscribed, or use another id",
                subscribe.id
            );
            return Request::Refuse(ErrorMessage::new(ErrorCode::DuplicateId, message));
        }
        if self.ids.used().len() >= self.limits.max_subscriptions {
            let most = self.limits.max_subscriptions;
            let message = format!("a connection may have {most} subscriptions (--max-subscriptions)");
            let error =
                ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit("subscriptions"));
            return Request::Refuse(error.about(subscribe.id.as_str()));
        }
        if subscribe.opening == Opening::Snapshot && subscribe.table.messages().is_some() {
            let message = "messages leave no rows behind: leave snapshot out".to_owned();
            return refuse(ErrorCode::BadRequest, message);
        }
        Request::Subscribe(self.ids.take(&subscribe.id), subscribe)
    }

    fn counted(&mut self, request: Request, now: Instant) -> Request {
        if matches!(request, Request::Refuse(_)) {
            self.refused(now);
        }
        match request {
            Request::Refuse(error) if error.code == ErrorCode::BadRequest => {
                self.bad_requests += 1;
                if self.bad_requests < MAX_BAD_REQUESTS {
                    return Request::Refuse(error);
                }
                Request::Close(error, CloseCode::BadRequests)
            }
            request => {
                self.bad_requests = 0;
                request
            }
        }
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
