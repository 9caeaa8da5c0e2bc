//! [`Follower`]: a client that keeps its views up to date, whatever happens to its connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::server::Address;
use super::{At, Client, DEADLINE, End, Incoming, View, failure};

/// A client with views, which reconnects and resumes by itself.
pub struct Follower {
    address: Address,
    pub views: Vec<View>,
    connection: Option<(Client, Option<At>)>,
    /// Goes away about once in so many messages, so often.
    cuts: Option<(Rng, u32, u32)>,
    /// The events that may happen to it, if any may.
    mishaps: Option<Arc<Mishaps>>,
    /// Views that were refused for now, and when they ask again.
    refused: Vec<(String, Instant)>,
    /// It reads so much slower, after each message.
    pause: Duration,
    /// The number of times that it connected, and that it resumed inside a transaction.
    pub connects: usize,
    pub resumed_inside: usize,
    /// Up to where it has everything, for others to look at.
    pub reached: Arc<AtomicU64>,
    /// The reason why it failed, on a thread of its own.
    pub failure: Arc<OnceLock<String>>,
    /// The beginnings of the last messages, for a failure's report.
    recent: VecDeque<String>,
}

const RECENT: usize = 12;
/// The time that one view may stand still while others move.
pub const VIEW_DEADLINE: Duration = Duration::from_secs(5 * DEADLINE.as_secs());

impl Drop for Follower {
    fn drop(&mut self) {
        if thread::panicking() {
            if let Some(reason) = failure::reason() {
                // One that is dropped with a test that failed has it already, or none of its own.
                drop(self.failure.set(reason));
            }
            eprintln!("--- the last messages ---");
            for message in &self.recent {
                eprintln!("{message}");
            }
        }
    }
}

fn summary(message: &Value) -> String {
    if let Some(rows) = message["rows"].as_array() {
        return format!("snapshot {} {} rows", message["id"], rows.len());
    }
    let Some(changes) = message["changes"].as_array() else {
        return message.to_string();
    };
    let mut short = message.clone();
    let ends = [changes.first(), changes.last()];
    let seqs = ends.map(|change| change.map_or(Value::Null, |change| change["seq"].clone()));
    short["changes"] = format!("{} changes, seqs {} to {}", changes.len(), seqs[0], seqs[1]).into();
    short.to_string()
}

/// The events that may happen to followers, and those that did.
#[derive(Default)]
pub struct Mishaps {
    /// True if the history may break: something was done that it cannot survive.
    pub may_break: AtomicBool,
    /// True if columns that queries name may have another type by now.
    pub may_change: AtomicBool,
    /// Another error that may end a view, since something was done to its table.
    pub forgiven: Mutex<Vec<Forgiven>>,
    /// The number of times that a view was told to start again.
    pub restarts: AtomicUsize,
    /// The number of times that one was ended by what was done to its table.
    pub endings: AtomicUsize,
    /// The number of times that one was told to ask again.
    pub retries: AtomicUsize,
}

/// An error that may end views, of those that need something which was changed.
#[derive(Clone, Copy, Debug)]
pub struct Forgiven {
    pub code: &'static str,
    pub table: &'static str,
    /// A part of its message.
    pub says: &'static str,
    /// The views that it may end.
    pub of: fn(&View) -> bool,
}

impl Mishaps {
    /// From here on, until nothing is forgiven any more.
    pub fn forgive(&self, forgiven: Forgiven) {
        self.forgiven.lock().unwrap().push(forgiven);
    }

    /// True if a view may be ended so.
    fn forgives(&self, view: &View, error: &Value) -> bool {
        let text = error["message"].as_str().unwrap_or_default();
        self.forgiven.lock().unwrap().iter().any(|forgiven| {
            error["code"] == forgiven.code
                && view.table() == Some(forgiven.table)
                && text.contains(forgiven.says)
                && (forgiven.of)(view)
        })
    }
}

/// The place to stop at, once somebody says so.
pub type Goal = Arc<OnceLock<At>>;

impl Follower {
    pub fn new(address: Address, views: Vec<View>) -> Follower {
        Follower {
            address,
            views,
            connection: None,
            cuts: None,
            mishaps: None,
            refused: Vec::new(),
            pause: Duration::ZERO,
            connects: 0,
            resumed_inside: 0,
            reached: Arc::default(),
            failure: Arc::default(),
            recent: VecDeque::new(),
        }
    }

    /// The same, but it goes away about once in `messages` messages, `times` times.
    pub fn cut_once_in(mut self, messages: u32, times: u32, seed: u64) -> Follower {
        self.cuts = Some((Rng::with_seed(seed), messages, times));
        self
    }

    /// The same, but its history may break, and the database may be away.
    pub fn forgiving(mut self, mishaps: &Arc<Mishaps>) -> Follower {
        self.mishaps = Some(Arc::clone(mishaps));
        self
    }

    /// The same, but it takes its time after each message.
    pub fn slow(mut self, pause: Duration) -> Follower {
        self.pause = pause;
        self
    }

    /// Follows on a thread of its own until everything has come to the goal.
    /// Counts once when all views are in force.
    pub fn follow(mut self, goal: &Goal, joined: &Arc<AtomicUsize>) -> JoinHandle<Follower> {
        let goal = Arc::clone(goal);
        let joined = Arc::clone(joined);
        thread::spawn(move || {
            self.until(|follower| follower.views.iter().all(|view| view.start.is_some()));
            joined.fetch_add(1, Ordering::Relaxed);
            self.until(|follower| goal.get().is_some_and(|goal| follower.has_come_to(*goal)));
            self
        })
    }

    /// True if every view is complete up to there.
    pub fn has_come_to(&self, goal: At) -> bool {
        let has_come = |view: &View| view.is_established() && view.at >= Some(goal);
        self.views.iter().all(has_come)
    }

    /// Reads on until that holds.
    pub fn until(&mut self, done: impl Fn(&Follower) -> bool) {
        let began = Instant::now();
        let mut news = began;
        let mut moved = began;
        let mut last = None;
        while !done(self) {
            let last_view = self.views.iter().filter_map(|view| view.at).min();
            if last_view != last {
                news = Instant::now();
                moved = Instant::now();
                last = last_view;
                if let Some(at) = last_view.filter(|_| self.views.iter().all(|view| view.at.is_some())) {
                    let whole = if at.is_whole() { at.end } else { at.end - 1 };
                    self.reached.store(whole, Ordering::Relaxed);
                }
            }
            // One view may have to wait until others have come on.
            assert!(
                news.elapsed() < DEADLINE && moved.elapsed() < VIEW_DEADLINE,
                "no news for {:?}, none of the last view for {:?}: {:?}",
                news.elapsed(),
                moved.elapsed(),
                self.positions()
            );
            if self.connection.is_none() && !self.connect() {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            self.ask_again();
            match self.read() {
                Incoming::Message(message) => {
                    self.take(&message);
                    if message["type"] != "error" {
                        news = Instant::now();
                    }
                    thread::sleep(self.pause);
                    self.maybe_cut();
                }
                Incoming::Nothing => {}
                Incoming::End(End::Lost | End::Closed(1001 | 1005 | 1006, _)) => self.disconnect(),
                Incoming::End(End::Closed(4001 | 4002, _)) if self.mishaps.is_some() => self.disconnect(),
                Incoming::End(end) => panic!("closed: {end:?}"),
            }
        }
    }

    fn maybe_cut(&mut self) {
        let Some((rng, once_in, left @ 1..)) = &mut self.cuts else {
            return;
        };
        if rng.u32(0..*once_in) == 0 {
            *left -= 1;
            self.disconnect();
        }
    }

    fn positions(&self) -> Vec<(&str, Option<At>)> {
        self.views.iter().map(|view| (&*view.id, view.at)).collect()
    }

    fn read(&mut self) -> Incoming {
        let until = Instant::now() + Duration::from_millis(50);
        match &mut self.connection {
            Some((client, _)) => client.next_by(until),
            None => Incoming::Nothing,
        }
    }

    /// Goes away without a word.
    pub fn disconnect(&mut self) {
        self.connection = None;
        self.refused.clear();
        for view in &mut self.views {
            view.live = false;
        }
    }

    fn connect(&mut self) -> bool {
        let address = *self.address.lock().unwrap();
        let Ok(mut client) = Client::try_connect(address, "/v1/stream", &[]) else {
            return false;
        };
        self.connects += 1;
        let inside = |view: &&View| view.at.is_some_and(|at| !at.is_whole());
        self.resumed_inside += self.views.iter().filter(inside).count();
        let sent = self.views.iter().all(|view| client.try_send(&view.subscribe()));
        self.connection = sent.then_some((client, None));
        sent
    }

    /// Adds a view to the connection as it is.
    pub fn add(&mut self, view: View) {
        if let Some((client, _)) = &mut self.connection {
            client.try_send(&view.subscribe());
        }
        self.views.push(view);
    }

    fn view(&mut self, id: &Value) -> &mut View {
        let found = self.views.iter_mut().find(|view| *id == *view.id);
        found.unwrap_or_else(|| panic!("about nobody: {id}"))
    }

    fn take(&mut self, message: &Value) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(summary(message));
        match message["type"].as_str().unwrap() {
            "subscribed" => {
                let hello = self.connection.as_ref().map(|(client, _)| client.hello.clone());
                self.view(&message["id"]).subscribed(message, &hello.unwrap());
            }
            "snapshot" => {
                let rows = message["rows"].as_array().unwrap();
                self.view(&message["id"]).snapshot(rows);
            }
            "live" => {
                let position = At::read(&message["position"]);
                self.meets_at(position, message);
                self.view(&message["id"]).goes_live(position);
            }
            "progress" => {
                let position = At::read(&message["position"]);
                assert!(position.is_whole(), "{message}");
                self.moves_to(position, message);
                for view in self.views.iter_mut().filter(|view| view.live) {
                    view.progress(position);
                }
            }
            "tx" => self.tx(message),
            "error" => self.refused(message),
            _ => panic!("{message}"),
        }
    }

    /// An error that may be: of a history that broke or a column that has another type, after which the view starts
    /// again; or of a question that the database was not there to answer, which is asked again.
    fn refused(&mut self, message: &Value) {
        let Some(mishaps) = self.mishaps.clone() else {
            panic!("{message}");
        };
        let view = self.view(&message["id"]);
        match message["code"].as_str().unwrap() {
            _ if mishaps.forgives(view, message) => {
                mishaps.endings.fetch_add(1, Ordering::Relaxed);
                view.restart();
                if message["code"] == "replica_identity" {
                    view.relents();
                }
            }
            "resume_invalid" | "resume_expired" if mishaps.may_break.load(Ordering::SeqCst) => {
                mishaps.restarts.fetch_add(1, Ordering::Relaxed);
                view.restart();
            }
            "schema_changed" if mishaps.may_change.load(Ordering::SeqCst) => {
                let text = message["message"].as_str().unwrap();
                let column = text.split('"').nth(1).unwrap_or_default();
                assert!(
                    text.contains("is of type") && view.names(column),
                    "{message}: {view:?}"
                );
                mishaps.restarts.fetch_add(1, Ordering::Relaxed);
                view.restart();
            }
            "internal" => {
                mishaps.retries.fetch_add(1, Ordering::Relaxed);
                if !view.is_established() {
                    view.at = None;
                }
            }
            _ => panic!("{message}"),
        }
        let id = view.id.clone();
        view.live = false;
        self.refused
            .push((id, Instant::now() + Duration::from_millis(200)));
    }

    fn ask_again(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.refused.drain(..).partition(|(_, at)| *at <= now);
        self.refused = later;
        for (id, _) in due {
            let subscribe = self.view(&Value::from(id)).subscribe();
            if let Some((client, _)) = &mut self.connection {
                client.try_send(&subscribe);
            }
        }
    }

    /// The connection's own positions strictly increase.
    fn moves_to(&mut self, position: At, message: &Value) {
        let Some((_, at)) = &mut self.connection else {
            return;
        };
        assert!(Some(position) > *at, "{message} at {at:?}");
        *at = Some(position);
    }

    /// A view that goes live stands where the connection does, or would if it had been told.
    fn meets_at(&mut self, position: At, message: &Value) {
        let Some((_, at)) = &mut self.connection else {
            return;
        };
        assert!(Some(position) >= *at, "{message} at {at:?}");
        *at = Some(position);
    }

    fn tx(&mut self, message: &Value) {
        let position = At::read(&message["position"]);
        let more = message.get("more").is_some();
        assert!(!more || message["more"] == true);
        assert_eq!(position.is_whole(), !more, "{message}");
        let all: Vec<&Value> = message["changes"].as_array().unwrap().iter().collect();
        assert!(all.is_sorted_by_key(|change| change["seq"].as_u64()), "{message}");
        if let (true, Some(last)) = (more, all.last()) {
            assert_eq!(
                position.to_string().rsplit(':').next(),
                Some(&*last["seq"].to_string())
            );
        }
        let alone = message.get("id");
        if alone.is_none() {
            self.moves_to(position, message);
        }
        let mut told = 0;
        for view in &mut self.views {
            let concerned = match alone {
                Some(id) => *id == *view.id,
                None => view.live,
            };
            if concerned {
                assert_ne!(view.live, alone.is_some(), "{}: live and catching up", view.id);
                let changes: Vec<&Value> = all.iter().copied().filter(|c| c["id"] == *view.id).collect();
                told += changes.len();
                view.tx(position, more, &changes);
            }
        }
        assert_eq!(told, all.len(), "changes about others: {message}");
    }
}
