//! The normal form of a conversation: positions, transaction ids, times, epochs and names of databases are others each
//! time; in the normal form they are the same ones each time, in the same order.
//!
//! A position becomes `0/SCC`: it lies after step S of the script's SQL (1 is before the first), and after CC of that
//! step's transactions that were sent. So positions in a transcript compare as those that they stand for.

use walcast::lsn::Lsn;

/// Everything that was met so far, of each kind.
pub struct Normal {
    database: String,
    /// The end of the server's log before each step.
    steps: Vec<Lsn>,
    /// The positions of the transactions that were sent, in order and once each.
    commits: Vec<Lsn>,
    epochs: Vec<String>,
    xids: Vec<String>,
    times: Vec<String>,
    /// The times at which tokens expire.
    expiries: Vec<String>,
    /// Every position that was met.
    positions: Vec<Lsn>,
    /// The end of the server's log after each step.
    ends: Vec<Lsn>,
    /// Positions of the script's own, which stand for no others.
    literal: Vec<Lsn>,
}

impl Normal {
    pub fn new(database: &str) -> Normal {
        Normal {
            database: database.to_owned(),
            steps: Vec::new(),
            commits: Vec::new(),
            epochs: Vec::new(),
            xids: Vec::new(),
            times: Vec::new(),
            expiries: Vec::new(),
            positions: Vec::new(),
            ends: Vec::new(),
            literal: Vec::new(),
        }
    }

    /// The next step begins here.
    pub fn step(&mut self, written: Lsn) {
        self.steps.push(written);
    }

    /// The step is done: what the application is told by `pg_current_wal_insert_lsn()`.
    pub fn done(&mut self, written: Lsn) {
        self.ends.push(written);
    }

    /// Learns what a message holds.
    pub fn learn(&mut self, text: &str) {
        for (at, lsn) in positions(text) {
            if !self.positions.contains(&lsn) {
                self.positions.push(lsn);
            }
            let is_commit = text.starts_with("{\"type\":\"tx\",") && text[..at].ends_with("\"position\":\"");
            if is_commit && let Err(place) = self.commits.binary_search(&lsn) {
                self.commits.insert(place, lsn);
            }
        }
        note(&mut self.epochs, string(text, "\"epoch\":\"", '"'));
        note(&mut self.times, string(text, "\"ts\":\"", '"'));
        note(&mut self.expiries, string(text, "\"expires\":\"", '"'));
        note(
            &mut self.xids,
            string(text, "\"xid\":", ',').filter(|xid| *xid != "0"),
        );
    }

    /// A text that the server sent, in its normal form.
    pub fn text(&self, text: &str) -> String {
        let mut normal = String::with_capacity(text.len());
        let mut done = 0;
        for (at, lsn) in positions(text) {
            normal.push_str(&text[done..at]);
            let end = at + lsn_length(&text[at..]);
            if self.literal.contains(&lsn) {
                normal.push_str(&text[at..end]);
            } else {
                normal.push_str(&self.position(lsn));
            }
            done = end;
        }
        normal.push_str(&text[done..]);
        for (number, epoch) in self.epochs.iter().enumerate() {
            normal = normal.replace(epoch.as_str(), &format!("e{:015}", number + 1));
        }
        for (number, time) in self.times.iter().enumerate() {
            normal = normal.replace(time.as_str(), &format!("2026-01-01T00:00:{number:02}.000000Z"));
        }
        for (number, time) in self.expiries.iter().enumerate() {
            normal = normal.replace(time.as_str(), &format!("2026-01-01T01:{number:02}:00.000000Z"));
        }
        for (number, xid) in self.xids.iter().enumerate() {
            normal = normal.replace(&format!("\"xid\":{xid},"), &format!("\"xid\":{},", 701 + number));
        }
        let version = format!("walcast/{}", env!("CARGO_PKG_VERSION"));
        let normal = normal.replace(&version, "walcast/0.0.0");
        let normal = normal.replace(&format!("\"{}\"", self.database), "\"app\"");
        normal.replace(&format!("limited_{}", self.database), "limited_app")
    }

    /// A text of the script, with the positions and epochs that stand for its own.
    pub fn real(&mut self, text: &str) -> String {
        // Those that were met come first: the end of a step's log may lie behind its last transaction.
        let known = || self.positions.iter().chain(&self.ends);
        let stands = |(_, lsn): &(usize, Lsn)| known().any(|&known| self.position(known) == lsn.to_string());
        let literal = positions(text).into_iter().filter(|found| !stands(found));
        let literal: Vec<_> = literal.map(|(_, lsn)| lsn).collect();
        self.literal.extend(literal);
        let mut real = text.to_owned();
        for &lsn in self.positions.iter().chain(&self.ends) {
            real = real.replace(&format!("\"{}\"", self.position(lsn)), &format!("\"{lsn}\""));
            real = real.replace(&format!("\"{}:", self.position(lsn)), &format!("\"{lsn}:"));
        }
        for (number, epoch) in self.epochs.iter().enumerate() {
            real = real.replace(&format!("e{:015}", number + 1), epoch);
        }
        real
    }

    fn position(&self, lsn: Lsn) -> String {
        let step = self.steps.partition_point(|&begin| begin < lsn);
        let begin = step.checked_sub(1).map(|step| self.steps[step]);
        let commits = self
            .commits
            .iter()
            .filter(|&&commit| commit <= lsn && begin.is_none_or(|begin| commit > begin));
        format!("0/{:X}", ((step + 1) << 8) + commits.count())
    }
}

fn note(met: &mut Vec<String>, value: Option<&str>) {
    if let Some(value) = value.filter(|&value| !met.iter().any(|met| met == value)) {
        met.push(value.to_owned());
    }
}

/// The text between a beginning and an end, the first time.
fn string<'a>(text: &'a str, begin: &str, end: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(value, _)| value)
}

/// The positions in a text, with their places: `16/B374D848` as a word of its own.
fn positions(text: &str) -> Vec<(usize, Lsn)> {
    let mut found = Vec::new();
    for (slash, _) in text.match_indices('/') {
        let before = text[..slash]
            .bytes()
            .rev()
            .take_while(u8::is_ascii_hexdigit)
            .count();
        let begin = slash - before;
        let word = &text[begin..begin + lsn_length(&text[begin..])];
        let alone = text[..begin]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '/');
        if let Some(lsn) = Some(word).filter(|_| alone).and_then(|word| word.parse().ok()) {
            found.push((begin, lsn));
        }
    }
    found
}

/// The length of the position that a text begins with.
fn lsn_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_hexdigit() && c != '/')
        .unwrap_or(text.len())
}
