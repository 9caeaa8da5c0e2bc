//! Positions in a database's history: [`Lsn`], [`Position`], [`Start`] and the [`Epoch`] they belong to.
//!
//! The one thing to know: a transaction stands at the *end* LSN of its commit record, everywhere. Its commit LSN is
//! another number, and one transaction's end can be the next one's commit LSN: only ends are ever compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte position in the write-ahead log, printed as Postgres prints `pg_lsn`: `16/B374D848`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position before everything, which Postgres also uses for "invalid".
    pub const ZERO: Lsn = Lsn(0);

    /// The number of bytes of log that lie between `earlier` and this position; 0 if `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a position: expected an LSN such as 16/B374D848, or 16/B374D848:17 for a place inside a transaction"
)]
pub struct ParseError(pub String);

impl FromStr for Lsn {
    type Err = ParseError;

    /// Reads `16/B374D848`, in either case and with leading zeros (Postgres 19 prints them).
    fn from_str(text: &str) -> Result<Lsn, ParseError> {
        let half = |digits: &str| {
            let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            valid.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseError(text.to_owned()))
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Lsn, ParseError> {
        text.parse()
    }
}

/// The amount of the transaction at a [`Position`] that is done: up to a change, or all of it. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Done {
    /// Everything up to and including the change of this index (its `seq`).
    Change(u32),
    /// The whole transaction.
    Commit,
}

/// A place in the history that a client can resume from: `16/B374D848`, after the transaction that ends there, or
/// `16/B374D848:17`, after change 17 of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The end LSN of the transaction's commit record.
    pub end: Lsn,
    /// The amount of that transaction that lies before this place.
    pub done: Done,
}

impl Position {
    /// The place just after change `seq` of the transaction that ends at `end`.
    pub fn after_change(end: Lsn, seq: u32) -> Position {
        Position {
            end,
            done: Done::Change(seq),
        }
    }

    /// The place after every transaction that ends at or before `end`.
    pub fn after(end: Lsn) -> Position {
        Position {
            end,
            done: Done::Commit,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.done {
            Done::Commit => self.end.fmt(f),
            Done::Change(seq) => write!(f, "{}:{seq}", self.end),
        }
    }
}

impl FromStr for Position {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Position, ParseError> {
        let error = || ParseError(text.to_owned());
        match text.split_once(':') {
            None => Ok(Position::after(text.parse().map_err(|_| error())?)),
            Some((end, seq)) => {
                let plain = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
                let seq = if plain {
                    seq.parse().map_err(|_| error())?
                } else {
                    return Err(error());
                };
                Ok(Position::after_change(end.parse().map_err(|_| error())?, seq))
            }
        }
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The place where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next transaction.
    Now,
    /// With the oldest transaction that the journal still holds.
    Earliest,
    /// With the first change after this place.
    After(Position),
}

/// The opaque name of one unbroken history. Positions compare only within an epoch: it changes when the slot was lost
/// and created again, when the server was restored from a backup, or when a failover lost what had been sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(pub String);

impl Epoch {
    /// A name that no other history has: 16 hexadecimal digits.
    pub fn random() -> Epoch {
        Epoch::of(fastrand::u64(..))
    }

    /// The name that is that number, see [`Epoch::number`].
    pub fn of(number: u64) -> Epoch {
        Epoch(format!("{number:016x}"))
    }

    /// The number that the name is; `None` of a name that was not made here.
    pub fn number(&self) -> Option<u64> {
        u64::from_str_radix(&self.0, 16).ok()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_prints_and_reads_as_postgres_does() {
        for (text, value) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse::<Lsn>(), Ok(Lsn(value)));
            assert_eq!(Lsn(value).to_string(), text);
        }
        assert_eq!("0000016/b374d848".parse::<Lsn>(), Ok(Lsn(0x16_B374_D848)));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let bad = [
            "",
            "/",
            "16",
            "16/",
            "/16",
            "+1/2",
            "1/-2",
            "1/2/3",
            "1/123456789",
            "g/0",
            " 1/2",
            "1/2:",
            "1/2:+3",
        ];
        for text in bad.iter().chain(&["1/2:x", "1/2:4294967296", "1/2:3:4"]) {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn positions_order_changes_before_their_commit_and_after_the_one_before() {
        let ordered = ["1/10", "1/20:0", "1/20:1", "1/20:10", "1/20", "1/21:0"];
        let parsed: Vec<Position> = ordered.iter().map(|p| p.parse().unwrap()).collect();
        assert!(parsed.is_sorted());
        assert_eq!(
            parsed.iter().map(Position::to_string).collect::<Vec<_>>(),
            ordered
        );
    }
}
