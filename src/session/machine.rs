//! [`Machine`]: what a connection may say, and when it has been silent for too long. Pure: time is an argument.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::filter::{self, Cost};
use crate::protocol::{
    ClientMessage, CloseCode, Detail, ErrorCode, ErrorMessage, Opening, ServerMessage, Subscribe, Token,
};

/// Bounds on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Subscriptions at once.
    pub max_subscriptions: usize,
    /// The time without a word from the client after which it is pinged.
    pub ping_interval: Duration,
    /// The time without a word from the client after which it is given up.
    pub pong_timeout: Duration,
}

/// Bad requests in a row that close the connection.
const MAX_BAD_REQUESTS: u32 = 20;

/// A request of a client.
#[derive(Debug)]
pub(super) enum Request {
    /// Answer with this.
    Reply(String),
    /// Refuse it with this.
    Refuse(ErrorMessage),
    /// Refuse it with this, and close the connection.
    Close(ErrorMessage, CloseCode),
    /// A subscription, under an id that is taken from now on.
    Subscribe(Arc<str>, Box<Subscribe>),
    /// The end of the subscription of this id, which is free once the client was told so.
    Unsubscribe(Arc<str>),
    /// A token, as yet unverified.
    Auth(Token),
}

/// An action that is due when the clock is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A ping to the client.
    Ping,
    /// Its end: it has been silent for too long.
    Silence,
}

/// The most work that the predicates of a connection may take for a row of ordinary values.
pub(super) const MAX_CONNECTION_COST: u64 = 5 * filter::MAX_COST;
/// The most bytes that the predicates of a connection may take.
pub(super) const MAX_CONNECTION_BYTES: usize = 8 * filter::MAX_BYTES;

/// The state of a connection apart from the data.
#[derive(Debug)]
pub(super) struct Machine {
    limits: Limits,
    /// True if tokens mean something here.
    takes_tokens: bool,
    ids: Vec<Arc<str>>,
    /// The cost of subscriptions, by their ids; also of some that are over.
    costs: Vec<(Arc<str>, Cost)>,
    /// The ids of subscriptions that were unsubscribed, until the client is told that they are over: messages of
    /// theirs may still be on their way, and must not be taken for those of another.
    ending: Vec<Arc<str>>,
    bad_requests: u32,
    heard: Instant,
    /// The time of the last ping, unless it said something since.
    pinged: Option<Instant>,
    /// The number of control frames that it may send at once, as of the time beside it.
    control: (f64, Instant),
}

/// Control frames (pings and pongs) that a client may send at once, and in a second for as long as it likes.
const CONTROL_BURST: f64 = 500.0;
const CONTROL_PER_SECOND: f64 = 50.0;

impl Machine {
    pub(super) fn new(limits: Limits, takes_tokens: bool, now: Instant) -> Machine {
        Machine {
            limits,
            takes_tokens,
            ids: Vec::new(),
            costs: Vec::new(),
            ending: Vec::new(),
            bad_requests: 0,
            heard: now,
            pinged: None,
            control: (CONTROL_BURST, now),
        }
    }

    /// Notes what a subscription takes, unless all of the connection's together then take too much.
    pub(super) fn weigh(&mut self, id: &Arc<str>, cost: Cost) -> Result<(), ErrorMessage> {
        let ids = &self.ids;
        let is_held = |held: &Arc<str>| ids.iter().any(|id| Arc::ptr_eq(id, held));
        self.costs
            .retain(|(held, _)| is_held(held) && !Arc::ptr_eq(held, id));
        let total = self.costs.iter().map(|(_, cost)| *cost).sum::<Cost>() + cost;
        let (limit, message) = if total.work > MAX_CONNECTION_COST {
            let message = format!(
                "the predicates of this connection would take about {} units of work for each row, and \
                 {MAX_CONNECTION_COST} are allowed",
                total.work
            );
            ("connection_predicate_cost", message)
        } else if total.bytes > MAX_CONNECTION_BYTES {
            let message = format!(
                "the predicates of this connection would take {} bytes, and {MAX_CONNECTION_BYTES} are allowed",
                total.bytes
            );
            ("connection_predicate_bytes", message)
        } else {
            self.costs.push((Arc::clone(id), cost));
            return Ok(());
        };
        Err(ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit(limit)))
    }

    /// A control frame came. Whether the client may send as many.
    pub(super) fn control(&mut self, now: Instant) -> bool {
        let (left, at) = self.control;
        let gained = now.saturating_duration_since(at).as_secs_f64() * CONTROL_PER_SECOND;
        let left = (left + gained).min(CONTROL_BURST) - 1.0;
        self.control = (left.max(0.0), now);
        left >= 0.0
    }

    /// The client said something, if only a pong.
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
            // Counted from the ping: as long as we were busy writing to it, nobody asked.
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

    /// The request that a message makes.
    pub(super) fn text(&mut self, text: &str) -> Request {
        let request = match ClientMessage::parse(text) {
            Ok(message) => self.request(message),
            Err(error) => Request::Refuse(error),
        };
        self.counted(request)
    }

    /// A message that is not text.
    pub(super) fn binary(&mut self) -> Request {
        let message = "messages are JSON in text frames, not binary";
        self.counted(Request::Refuse(ErrorMessage::new(ErrorCode::BadRequest, message)))
    }

    /// Has a subscription end without having been asked to: what it has is as if it was unsubscribed.
    pub(super) fn revoke(&mut self, id: &Arc<str>) {
        if let Some(index) = self.ids.iter().position(|held| Arc::ptr_eq(held, id)) {
            self.ending.push(self.ids.swap_remove(index));
        }
    }

    /// Frees the id of a subscription that ended, of which the client is told now.
    pub(super) fn free(&mut self, id: &Arc<str>) {
        self.ids.retain(|held| !Arc::ptr_eq(held, id));
        self.ending.retain(|held| !Arc::ptr_eq(held, id));
    }

    /// The ids in use.
    pub(super) fn ids(&self) -> &[Arc<str>] {
        &self.ids
    }

    fn request(&mut self, message: ClientMessage) -> Request {
        match message {
            ClientMessage::Ping { reference } => Request::Reply(
                ServerMessage::Pong {
                    reference: reference.as_deref(),
                }
                .to_json(),
            ),
            ClientMessage::Auth { token } if self.takes_tokens => Request::Auth(token),
            ClientMessage::Auth { .. } => {
                let message = "this server asks for no token: leave auth out";
                Request::Refuse(ErrorMessage::new(ErrorCode::BadRequest, message))
            }
            ClientMessage::Unsubscribe { id } => match self.ids.iter().position(|held| **held == *id) {
                Some(index) => {
                    let id = self.ids.swap_remove(index);
                    self.ending.push(Arc::clone(&id));
                    Request::Unsubscribe(id)
                }
                // Without the id: what ends that subscription is still to come.
                None if self.is_ending(&id) => {
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

    fn is_ending(&self, id: &str) -> bool {
        self.ending.iter().any(|held| **held == *id)
    }

    fn subscribe(&mut self, subscribe: Box<Subscribe>) -> Request {
        let refuse = |code, message: String| {
            Request::Refuse(ErrorMessage::new(code, message).about(subscribe.id.as_str()))
        };
        if self.ids.iter().any(|held| **held == *subscribe.id) {
            // Without the id: an error with an id ends that subscription, and the first one goes on.
            let message = format!(
                "there is a subscription {:?} already: unsubscribe it first",
                subscribe.id
            );
            return Request::Refuse(ErrorMessage::new(ErrorCode::DuplicateId, message));
        }
        if self.is_ending(&subscribe.id) {
            let message = format!(
                "the subscription {:?} is being ended: wait for unsubscribed, or use another id",
                subscribe.id
            );
            return Request::Refuse(ErrorMessage::new(ErrorCode::DuplicateId, message));
        }
        if self.ids.len() >= self.limits.max_subscriptions {
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
        let id: Arc<str> = subscribe.id.as_str().into();
        self.ids.push(Arc::clone(&id));
        Request::Subscribe(id, subscribe)
    }

    fn counted(&mut self, request: Request) -> Request {
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
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_subscriptions: 2,
        ping_interval: Duration::from_secs(20),
        pong_timeout: Duration::from_secs(45),
    };

    fn machine() -> (Machine, Instant) {
        let now = Instant::now();
        (Machine::new(LIMITS, false, now), now)
    }

    /// True if the subscription that took this id still holds it.
    fn holds(machine: &Machine, id: &Arc<str>) -> bool {
        machine.ids().iter().any(|held| Arc::ptr_eq(held, id))
    }

    fn code(request: Request) -> Option<ErrorCode> {
        match request {
            Request::Refuse(error) | Request::Close(error, ..) => Some(error.code),
            _ => None,
        }
    }

    #[test]
    fn an_id_is_taken_until_it_is_unsubscribed() {
        let (mut machine, _) = machine();
        let subscribe = r#"{"type":"subscribe","id":"a","table":"t"}"#;
        let unsubscribe = r#"{"type":"unsubscribe","id":"a"}"#;
        let Request::Subscribe(id, _) = machine.text(subscribe) else {
            panic!("refused")
        };
        assert!(holds(&machine, &id));
        assert_eq!(code(machine.text(subscribe)), Some(ErrorCode::DuplicateId));
        assert!(matches!(machine.text(unsubscribe), Request::Unsubscribe(freed) if Arc::ptr_eq(&freed, &id)));
        // Until the client is told, messages of it may come.
        assert!(!holds(&machine, &id));
        for again in [subscribe, unsubscribe] {
            let Request::Refuse(error) = machine.text(again) else {
                panic!("not refused")
            };
            assert_eq!(
                error.id, None,
                "it would end the subscription that is being ended: {error}"
            );
        }
        machine.free(&id);
        assert_eq!(code(machine.text(unsubscribe)), Some(ErrorCode::UnknownId));
        // The same name again is another subscription.
        assert!(matches!(machine.text(subscribe), Request::Subscribe(again, _) if !Arc::ptr_eq(&again, &id)));
        assert!(!holds(&machine, &id));
    }

    #[test]
    fn a_subscription_that_is_revoked_holds_its_id_until_the_client_is_told() {
        let (mut machine, _) = machine();
        let subscribe = r#"{"type":"subscribe","id":"a","table":"t"}"#;
        let Request::Subscribe(id, _) = machine.text(subscribe) else {
            panic!("refused")
        };
        machine.revoke(&id);
        assert!(!holds(&machine, &id));
        assert_eq!(code(machine.text(subscribe)), Some(ErrorCode::DuplicateId));
        machine.free(&id);
        assert!(matches!(machine.text(subscribe), Request::Subscribe(..)));
    }

    #[test]
    fn a_token_is_taken_where_tokens_are_asked_for() {
        let auth = r#"{"type":"auth","token":"x"}"#;
        let (mut machine, start) = machine();
        assert_eq!(code(machine.text(auth)), Some(ErrorCode::BadRequest));
        let mut machine = Machine::new(LIMITS, true, start);
        assert!(matches!(machine.text(auth), Request::Auth(token) if token.reveal() == "x"));
    }

    #[test]
    fn subscriptions_are_limited() {
        let (mut machine, _) = machine();
        for id in 0..2 {
            machine.text(&format!(r#"{{"type":"subscribe","id":"{id}","table":"t"}}"#));
        }
        let one_more = machine.text(r#"{"type":"subscribe","id":"x","table":"t"}"#);
        assert_eq!(code(one_more), Some(ErrorCode::LimitExceeded));
    }

    #[test]
    fn twenty_bad_requests_in_a_row_close_and_a_good_one_forgives() {
        let (mut machine, _) = machine();
        for _ in 0..19 {
            assert!(matches!(machine.text("nonsense"), Request::Refuse(_)));
        }
        assert!(matches!(
            machine.text(r#"{"type":"ping","ref":1}"#),
            Request::Reply(_)
        ));
        for _ in 0..19 {
            assert!(matches!(machine.binary(), Request::Refuse(_)));
        }
        assert!(matches!(
            machine.text("nonsense"),
            Request::Close(_, CloseCode::BadRequests)
        ));
    }

    #[test]
    fn a_silent_client_is_pinged_once_and_then_given_up() {
        let (mut machine, start) = machine();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(machine.due(at(19)), Due::Nothing);
        assert_eq!(machine.due(at(20)), Due::Ping);
        assert_eq!(machine.due(at(30)), Due::Nothing);
        machine.heard(at(31));
        assert_eq!(machine.due(at(50)), Due::Nothing);
        // It was not asked in time: that is not its fault.
        assert_eq!(machine.due(at(80)), Due::Ping);
        assert_eq!(machine.due(at(104)), Due::Nothing);
        assert_eq!(machine.due(at(105)), Due::Silence);
    }

    #[test]
    fn control_frames_may_come_in_a_burst_and_then_steadily() {
        let (mut machine, start) = machine();
        let at = |millis| start + Duration::from_millis(millis);
        assert!((0..500).all(|_| machine.control(start)));
        assert!(!machine.control(start));
        assert!((1..1000).all(|number| machine.control(at(20 * number))));
        assert!(!machine.control(at(20 * 999)));
        assert!((0..500).all(|_| machine.control(at(3_600_000))));
        assert!(!machine.control(at(3_600_000)));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let (mut machine, _) = machine();
        assert_eq!(
            code(machine.text(r#"{"type":"auth","token":"x"}"#)),
            Some(ErrorCode::BadRequest)
        );
        let snapshot = r#"{"type":"subscribe","id":"a","table":null,"messages":"m","snapshot":true}"#;
        assert_eq!(code(machine.text(snapshot)), Some(ErrorCode::BadRequest));
        assert!(machine.ids().is_empty());
    }
}
