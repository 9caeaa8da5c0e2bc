//! Clients that come and go with tokens of their own, keep what they see, and go on where they were when they are cut
//! off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use walcast::postgres::Connection;

use super::fold::{Folded, fold};
use super::policies::claims;
use super::{Ground, Totals, oracle};
use crate::support::guarded::auth;
use crate::support::issuer::{SigningKey, seconds_from_now};
use crate::support::{At, Client, End, Incoming, Refused};

/// Everything that one connection saw for a while, and why it might have.
#[derive(Default)]
pub(super) struct Seen {
    /// The claims that it may have been judged by.
    pub(super) claims: Vec<Value>,
    /// The policies that may have held meanwhile, from the first to the last.
    pub(super) sets: (usize, usize),
    /// The markers, each with the part of the first message that had it.
    pub(super) markers: BTreeMap<String, String>,
    /// The names of columns in what it received.
    pub(super) columns: BTreeSet<String>,
}

const PREDICATES_ON_DOC: [&str; 4] = ["tenant IN (1, 2, 3)", "level > 1", "title LIKE 'M%'", "id < 30"];
const PREDICATES_ON_ROOM: [&str; 2] = ["id > 2", "tenant <> 4"];

/// The time in which a transaction becomes visible once it is streamed.
const VISIBLE: Duration = Duration::from_secs(10);

/// The markers in a text.
fn markers(text: &str) -> impl Iterator<Item = String> {
    text.split('M').skip(1).filter_map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        (digits > 0 && rest[digits..].starts_with('Z')).then(|| format!("M{}", &rest[..=digits]))
    })
}

/// The beginning of a text, and what stands around a marker in it.
fn around(text: &str, marker: &str) -> String {
    let at = text.find(marker).unwrap();
    let part = |from: usize, to: usize| text.get(from..to.min(text.len())).unwrap_or_default();
    format!("{} … {}", part(0, 80), part(at.saturating_sub(300), at + 200))
}

impl Seen {
    fn text(&mut self, text: &str) {
        for marker in markers(text) {
            self.markers
                .entry(marker)
                .or_insert_with_key(|marker| around(text, marker));
        }
        for name in oracle::COLUMNS {
            if text.contains(&format!("\"{name}\"")) {
                self.columns.insert(name.to_owned());
            }
        }
    }
}

/// Runs clients one after the other until the end.
pub(super) fn run(ground: &Ground, number: usize, mut rng: Rng) -> Totals {
    let mut totals = Totals::default();
    let mut database = ground.guarded.database.connect();
    // Places that others were at: whoever comes next may ask for the past of these.
    let mut places: Vec<Value> = Vec::new();
    while !ground.is_over.load(Ordering::SeqCst) {
        ground.goes_on();
        let is_last = ground.is_last.load(Ordering::SeqCst);
        let subject = format!("s{}", rng.u32(0..4));
        // Each role has clients whose results are compared.
        let mut own = claims(&mut rng, &subject, is_last.then_some(number % super::ROLES));
        if !is_last && rng.u32(0..12) == 0 {
            own["exp"] = json!(seconds_from_now(2));
        }
        if rng.u32(0..15) == 0 {
            strangers_are_refused(ground, &own);
        }
        let caller = Caller {
            ground,
            rng: &mut rng,
            database: &mut database,
            places: &mut places,
            seen: Seen {
                sets: (ground.in_force.load(Ordering::SeqCst), 0),
                claims: vec![own.clone()],
                ..Seen::default()
            },
            claims: own,
            folded: BTreeMap::new(),
            number: 0,
            is_last,
            asked: None,
            totals: &mut totals,
        };
        caller.run();
    }
    totals
}

/// A token that somebody else signed opens nothing.
fn strangers_are_refused(ground: &Ground, claims: &Value) {
    let header = format!("Bearer {}", SigningKey::new("one").token(claims));
    let address = *ground.address.lock().unwrap();
    let refused = Client::try_connect(address, "/v1/stream", &[("authorization", &header)]);
    match refused {
        // 0 and 503 while the server starts.
        Err(Refused {
            status: 0 | 401 | 503,
            ..
        }) => {}
        Err(refused) => panic!("{refused:?}"),
        Ok(_) => panic!("a token of somebody else's was accepted"),
    }
}

fn is_expired(claims: &Value) -> bool {
    claims["exp"].as_i64().unwrap() <= seconds_from_now(0)
}

/// One client, whatever becomes of its connection.
struct Caller<'r> {
    ground: &'r Ground,
    rng: &'r mut Rng,
    database: &'r mut Connection,
    places: &'r mut Vec<Value>,
    seen: Seen,
    claims: Value,
    folded: BTreeMap<String, Folded>,
    number: usize,
    /// Its results are compared, so it goes on until everything has come.
    is_last: bool,
    /// The question that was asked last: its number, the policies that were in force by then, and the number of claims.
    asked: Option<(u64, usize, usize)>,
    totals: &'r mut Totals,
}

impl Caller<'_> {
    fn run(mut self) {
        let end = Instant::now() + Duration::from_millis(self.rng.u64(100..3_000));
        let mut target: Option<At> = None;
        self.totals.connections += 1;
        let Some(mut client) = self.connect() else {
            return;
        };
        loop {
            self.ground.goes_on();
            self.ask(&mut client);
            match client.next_text(Instant::now() + Duration::from_millis(30)) {
                Incoming::Message(text) => self.take(&text),
                Incoming::Nothing => {}
                Incoming::End(gone) => match self.come_back(&gone) {
                    Some(another) => client = another,
                    None => break,
                },
            }
            if self.is_last && target.is_none() && self.ground.is_over.load(Ordering::SeqCst) {
                target = Some(At::after(self.ground.guarded.database.written()));
                // Something to be told of, behind all of it.
                self.database
                    .query("SELECT pg_logical_emit_message(true, 'end', '')")
                    .unwrap();
            }
            self.replace_what_ended(&mut client);
            let has_come = |target| {
                // One that still catches up is not where the connection is.
                let mut held = self.folded.values().filter(|folded| !folded.is_over);
                held.all(|folded| folded.has_come_to(target))
            };
            if target.is_some_and(has_come) || !self.is_last && Instant::now() > end {
                break;
            }
        }
        self.judge();
        if self.is_last {
            let held = self.folded.values().filter(|folded| !folded.is_over);
            for folded in held {
                oracle::compare(self.ground, self.database, &self.claims, folded, self.totals);
            }
        }
    }

    /// A connection that was greeted; `None` if its token is over.
    fn connect(&mut self) -> Option<Client> {
        let token = self.ground.guarded.key.token(&self.claims);
        let is_first = self.rng.bool();
        loop {
            self.ground.goes_on();
            let address = *self.ground.address.lock().unwrap();
            let greeted = if is_first {
                self.greeted_by_message(Client::open(address, "/v1/stream", &[]), &token)
            } else {
                let header = format!("Bearer {token}");
                let headers = [("authorization", header.as_str())];
                Client::try_connect(address, "/v1/stream", &headers)
            };
            match greeted {
                Ok(client) => return Some(client),
                // The server is away, or starts.
                Err(Refused { status: 0 | 503, .. }) => thread::sleep(Duration::from_millis(20)),
                Err(Refused {
                    status: 401 | 4003, ..
                }) if is_expired(&self.claims) => return None,
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }

    /// The connection once its first message, the token, is accepted.
    fn greeted_by_message(
        &mut self,
        opened: Result<Client, Refused>,
        token: &str,
    ) -> Result<Client, Refused> {
        let mut client = opened?;
        client.try_send(&auth(token));
        let refused = |status, body: String| Err(Refused { status, body });
        match client.next_text(Instant::now() + Duration::from_secs(5)) {
            Incoming::Message(text) if text.starts_with("{\"type\":\"hello\"") => Ok(client),
            Incoming::Message(text) if text.contains("\"token_expired\"") => refused(4003, text),
            // This process stood still meanwhile.
            Incoming::Message(text) if text.contains("no token came in time") => refused(0, text),
            Incoming::Message(text) => panic!("no hello: {text}"),
            Incoming::Nothing => refused(0, "no hello".into()),
            Incoming::End(End::Closed(4003, reason)) => refused(4003, reason),
            Incoming::End(end) => refused(0, format!("{end:?}")),
        }
    }

    /// Another connection, on which everything goes on where it was; `None` if it stays away.
    fn come_back(&mut self, gone: &End) -> Option<Client> {
        let has_expired = matches!(gone, End::Closed(4003, _));
        let is_expected = matches!(gone, End::Lost | End::Closed(1001 | 1005 | 1006, _)) || has_expired;
        assert!(is_expected, "{gone:?}");
        // The token before the last one may have expired before that came.
        let mut known = self.seen.claims.iter();
        assert!(!has_expired || known.any(is_expired), "{gone:?}");
        if !self.is_last && self.rng.u32(0..4) == 0 {
            return None;
        }
        if has_expired {
            // The same caller, with another token.
            self.claims["exp"] = json!(seconds_from_now(7_200));
            self.seen.claims.push(self.claims.clone());
        }
        self.asked = None;
        let mut client = self.connect()?;
        self.totals.resumed += 1;
        for folded in self.folded.values_mut().filter(|folded| !folded.is_over) {
            client.try_send(&folded.resume());
        }
        Some(client)
    }

    fn take(&mut self, text: &str) {
        self.seen.text(text);
        let message: Value = serde_json::from_str(text).unwrap();
        if message["position"].is_string() && self.rng.u32(0..20) == 0 {
            self.places.push(message["position"].clone());
        }
        if message["type"] == "pong" {
            self.answered(&message);
        }
        fold(&message, &mut self.folded);
    }

    /// Sends what a client may send at any time.
    fn ask(&mut self, client: &mut Client) {
        if self.number == 0 || !self.is_last && self.rng.u32(0..60) == 0 {
            for _ in 0..self.rng.u32(1..4) {
                self.subscribe(client);
            }
        }
        if !self.is_last && self.rng.u32(0..200) == 0 {
            let subject = self.claims["sub"].as_str().unwrap().to_owned();
            self.claims = claims(self.rng, &subject, None);
            self.seen.claims.push(self.claims.clone());
            client.try_send(&auth(&self.ground.guarded.key.token(&self.claims)));
        }
        let in_force = self.ground.in_force.load(Ordering::SeqCst);
        if self.asked.is_none() && (in_force > self.seen.sets.0 || self.seen.claims.len() > 1) {
            let number = self.totals.asked;
            self.totals.asked += 1;
            self.asked = Some((number, in_force, self.seen.claims.len()));
            client.try_send(&json!({"type": "ping", "ref": number}));
        }
    }

    /// Subscribes again to what ended because its table was altered: there is to be something to compare.
    fn replace_what_ended(&mut self, client: &mut Client) {
        let ended = self
            .folded
            .iter()
            .find(|(_, folded)| self.is_last && folded.was_altered);
        let Some(id) = ended.map(|(id, _)| id.clone()) else {
            return;
        };
        self.number += 1;
        let another = self.number.to_string();
        let folded = self.folded.remove(&id).unwrap().anew(&another);
        client.try_send(&folded.query);
        self.folded.insert(another, folded);
    }

    /// Messages behind the answer are judged by the policies that were in force when it was asked for, or by later ones,
    /// and by the claims that were sent before it.
    fn answered(&mut self, pong: &Value) {
        let Some((_, in_force, claims)) = self.asked.take_if(|(number, ..)| pong["ref"] == *number) else {
            return;
        };
        self.judge();
        self.seen = Seen {
            sets: (in_force, 0),
            claims: self.seen.claims.split_off(claims - 1),
            ..Seen::default()
        };
    }

    /// Judges what was seen so far.
    fn judge(&mut self) {
        self.seen.sets.1 = self.ground.newest();
        self.totals.markers += self.seen.markers.len();
        // What is streamed may become visible to others a moment later.
        let until = Instant::now() + VISIBLE;
        while let Err(leaked) = oracle::judge(self.ground, self.database, &self.seen) {
            assert!(Instant::now() < until, "{leaked}\n{:?}", self.folded);
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn subscribe(&mut self, client: &mut Client) {
        let rng = &mut *self.rng;
        self.number += 1;
        let table = match rng.u32(0..12) {
            _ if self.is_last && self.number == 1 => "doc",
            0 => "vault",
            1..8 => "doc",
            _ => "room",
        };
        let predicates: &[&'static str] = if table == "room" {
            &PREDICATES_ON_ROOM
        } else {
            &PREDICATES_ON_DOC
        };
        let predicate = rng.bool().then(|| *rng.choice(predicates).unwrap());
        let id = self.number.to_string();
        let mut query = json!({"type": "subscribe", "id": id, "table": table, "old": rng.bool()});
        if let Some(predicate) = predicate {
            query["where"] = json!(predicate);
        }
        match rng.u32(0..4) {
            _ if self.is_last => query["snapshot"] = json!(true),
            0 => query["from"] = json!("earliest"),
            1 if !self.places.is_empty() => query["from"] = rng.choice(&*self.places).unwrap().clone(),
            2 => {}
            _ => query["snapshot"] = json!(true),
        }
        client.try_send(&query);
        let folded = Folded::new(table, predicate, query, self.is_last);
        self.folded.insert(id, folded);
    }
}
