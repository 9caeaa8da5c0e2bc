//! [`Ctype`]: which letter is whose lower case, under a collation (`LC_CTYPE`); [`CaseMap`]: what `lower` and
//! `upper` make of a text.
//!
//! Under most collations these map each character by itself (`towlower`, or the simple mappings of the builtin
//! `C.UTF-8`), so that a table of the characters that change says all of it. That table is the server's: it is asked
//! once in a process for each ctype, when the first predicate needs it, and kept here under the ctype's name, which is
//! all that relations say. So rows that were written long ago fold as rows do on the server now, and a name whose
//! table was not asked yet folds nothing: what needs it says so ([`CollationQuestion`]).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::CollationQuestion;

/// The lower case of each letter, under a collation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ctype {
    /// The server's secret: ICU and `PG_UNICODE_FAST` look at what stands around a letter.
    #[default]
    Unknown,
    /// `C` or `POSIX`: only ASCII letters have a lower case.
    C,
    /// Character by character, by the table that the server has under this name: `libc en_US.UTF-8`, for example.
    Named(String),
}

impl Ctype {
    /// True if nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        *self == Ctype::Unknown
    }

    /// The question that the server is to be asked before texts can be folded; `None` if nothing is: its table is
    /// known, or it has none.
    pub fn collation_question(&self) -> Option<CollationQuestion> {
        match self {
            Ctype::Named(name) => {
                Some(CollationQuestion::Letters(name.clone())).filter(|question| !question.is_answered())
            }
            Ctype::C | Ctype::Unknown => None,
        }
    }
}

/// The reason why a table is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} and {1:?} cannot be a letter and its lower case")]
pub struct NoLetters(pub char, pub char);

/// A map from each character to its lower and upper case. Equal maps are the same one.
#[derive(Clone, Copy)]
pub struct CaseMap(&'static Letters);

struct Letters {
    /// The place among all maps.
    number: usize,
    lower: Table,
    upper: Table,
}

/// The character that each one becomes.
#[derive(PartialEq, Eq)]
struct Table {
    ascii: [char; 128],
    /// The other characters that change, sorted, with what they become.
    others: Box<[(char, char)]>,
}

/// The maps by their number, and the numbers by the names of ctypes.
struct Learnt {
    maps: Vec<CaseMap>,
    /// `None` where the server's answer is no table.
    names: HashMap<String, Option<CaseMap>>,
}

/// The map of `C`, which is the first.
static ASCII: LazyLock<CaseMap> = LazyLock::new(|| {
    let of_ascii = |change: fn(&mut char)| {
        let mut table = Table::new([]);
        table.ascii.iter_mut().for_each(change);
        table
    };
    CaseMap::leak(
        0,
        of_ascii(char::make_ascii_lowercase),
        of_ascii(char::make_ascii_uppercase),
    )
});

static LEARNT: LazyLock<RwLock<Learnt>> = LazyLock::new(|| {
    let maps = vec![*ASCII];
    let names = HashMap::new();
    RwLock::new(Learnt { maps, names })
});

impl Table {
    /// The characters that change, each with what it becomes.
    fn new(letters: impl IntoIterator<Item = (char, char)>) -> Table {
        let mut ascii = std::array::from_fn(|code| char::from(code as u8));
        let mut others = Vec::new();
        for (letter, other) in letters {
            match ascii.get_mut(letter as usize) {
                Some(place) => *place = other,
                None => others.push((letter, other)),
            }
        }
        others.sort_unstable();
        let others = others.into();
        Table { ascii, others }
    }

    #[inline]
    fn change(&self, c: char) -> char {
        match self.ascii.get(c as usize) {
            Some(other) => *other,
            None => match self.others.binary_search_by_key(&c, |(letter, _)| *letter) {
                Ok(at) => self.others.get(at).map_or(c, |(_, other)| *other),
                Err(_) => c,
            },
        }
    }

    /// The text with every character changed; `None` if it is not UTF-8. Copies it if it must.
    fn change_text<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let text = std::str::from_utf8(text).ok()?;
        let changes = |(_, c): &(usize, char)| self.change(*c) != *c;
        let Some((at, _)) = text.char_indices().find(changes) else {
            return Some(Cow::Borrowed(text.as_bytes()));
        };
        let (same, rest) = text.split_at_checked(at)?;
        let mut changed = String::with_capacity(text.len());
        changed.push_str(same);
        changed.extend(rest.chars().map(|c| self.change(c)));
        Some(Cow::Owned(changed.into_bytes()))
    }
}

impl CaseMap {
    /// Only ASCII letters change.
    pub fn ascii() -> CaseMap {
        *ASCII
    }

    /// True if it is that one.
    pub fn is_ascii(self) -> bool {
        self.0.number == 0
    }

    /// The map of a ctype, if it is known.
    pub fn of(ctype: &Ctype) -> Option<CaseMap> {
        match ctype {
            Ctype::Unknown => None,
            Ctype::C => Some(CaseMap::ascii()),
            Ctype::Named(name) => {
                let learnt = LEARNT.read();
                learnt.names.get(name).copied().flatten()
            }
        }
    }

    /// True if the server has said of the ctype of that name what it is, or that it is none.
    pub(super) fn is_answered(name: &str) -> bool {
        let learnt = LEARNT.read();
        learnt.names.contains_key(name)
    }

    /// Keeps that the ctype of that name does not map each character to one.
    pub fn learn_none(name: &str) {
        let mut learnt = LEARNT.write();
        learnt.names.insert(name.to_owned(), None);
    }

    /// Keeps what the server says of a ctype, for as long as the process runs: the characters that `lower` changes,
    /// each with what it becomes, and those that `upper` changes.
    ///
    /// # Errors
    /// A character that has a meaning in patterns changes: `%`, `_` or the backslash. Then the ctype has no map.
    pub fn learn(
        name: &str,
        lower: impl IntoIterator<Item = (char, char)>,
        upper: impl IntoIterator<Item = (char, char)>,
    ) -> Result<(), NoLetters> {
        let lower: Vec<(char, char)> = lower.into_iter().collect();
        let is_special = |c: &char| matches!(c, '%' | '_' | '\\' | '\0');
        let special = lower.iter().find(|(a, b)| is_special(a) || is_special(b));
        if let Some((letter, lower)) = special {
            let none = NoLetters(*letter, *lower);
            CaseMap::learn_none(name);
            return Err(none);
        }
        let lower = Table::new(lower);
        let upper = Table::new(upper);
        let mut learnt = LEARNT.write();
        let is_same = |map: &&CaseMap| map.0.lower == lower && map.0.upper == upper;
        let same = learnt.maps.iter().find(is_same).copied();
        let map = same.unwrap_or_else(|| {
            let map = CaseMap::leak(learnt.maps.len(), lower, upper);
            learnt.maps.push(map);
            map
        });
        learnt.names.insert(name.to_owned(), Some(map));
        Ok(())
    }

    /// Matchers and indexes of every thread hold maps by the thousand, and there are no more of them than the server
    /// has locales.
    fn leak(number: usize, lower: Table, upper: Table) -> CaseMap {
        CaseMap(Box::leak(Box::new(Letters { number, lower, upper })))
    }

    /// The lower case of a character.
    #[inline]
    pub fn lower_char(self, c: char) -> char {
        self.0.lower.change(c)
    }

    /// The outcome of `lower` for a text; `None` if that is not UTF-8, which no server sends. Copies what it must
    /// change.
    pub fn lower(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.lower.change_text(text)
    }

    /// The outcome of `upper` for a text, likewise.
    pub fn upper(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.upper.change_text(text)
    }
}

impl fmt::Debug for CaseMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaseMap({})", self.0.number)
    }
}

impl PartialEq for CaseMap {
    fn eq(&self, other: &CaseMap) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for CaseMap {}

impl PartialOrd for CaseMap {
    fn partial_cmp(&self, other: &CaseMap) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CaseMap {
    fn cmp(&self, other: &CaseMap) -> Ordering {
        self.0.number.cmp(&other.0.number)
    }
}

impl Hash for CaseMap {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.number.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Ctype {
        Ctype::Named(name.to_owned())
    }

    fn lower(map: CaseMap, text: &str) -> String {
        String::from_utf8(map.lower(text.as_bytes()).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn a_ctype_folds_what_the_server_said_and_nothing_before() {
        let question = Some(CollationQuestion::Letters("ctype a".to_owned()));
        assert_eq!(
            (
                CaseMap::of(&named("ctype a")),
                named("ctype a").collation_question()
            ),
            (None, question)
        );
        let lowered = [('É', 'é'), ('\u{212a}', 'k'), ('I', 'ı'), ('Σ', 'σ')];
        CaseMap::learn("ctype a", lowered, [('é', 'É'), ('ß', 'ẞ')]).unwrap();
        assert_eq!(named("ctype a").collation_question(), None);
        let map = CaseMap::of(&named("ctype a")).unwrap();
        assert_eq!(lower(map, "aÉI\u{212a}ΑΣ日"), "aéıkΑσ日");
        assert_eq!(&*map.upper("aéß日".as_bytes()).unwrap(), "aÉẞ日".as_bytes());
        assert!(matches!(map.lower("éb日".as_bytes()), Some(Cow::Borrowed(_))));
        assert_eq!(map.lower(b"\xff"), None);
    }

    #[test]
    fn the_same_letters_are_the_same_map() {
        CaseMap::learn("ctype b", [('B', 'b'), ('É', 'é')], []).unwrap();
        CaseMap::learn("ctype c", [('É', 'é'), ('B', 'b')], []).unwrap();
        CaseMap::learn("ctype d", [('B', 'b')], []).unwrap();
        CaseMap::learn("ctype g", [('B', 'b')], [('b', 'B')]).unwrap();
        assert_ne!(CaseMap::of(&named("ctype d")), CaseMap::of(&named("ctype g")));
        let [b, c, d] = ["ctype b", "ctype c", "ctype d"].map(|name| CaseMap::of(&named(name)).unwrap());
        assert!(b == c && b != d && d != CaseMap::ascii());
        let lowered = ('A'..='Z').map(|c| (c, c.to_ascii_lowercase()));
        let raised = ('a'..='z').map(|c| (c, c.to_ascii_uppercase()));
        CaseMap::learn("ctype e", lowered, raised).unwrap();
        assert_eq!(CaseMap::of(&named("ctype e")), CaseMap::of(&Ctype::C));
    }

    #[test]
    fn only_ascii_letters_have_a_lower_case_under_c() {
        assert_eq!(lower(CaseMap::ascii(), "AZ[É\u{212a}"), "az[É\u{212a}");
        assert_eq!(
            &*CaseMap::ascii().upper("aéz".as_bytes()).unwrap(),
            "AéZ".as_bytes()
        );
        assert_eq!(CaseMap::of(&Ctype::Unknown), None);
    }

    #[test]
    fn a_table_that_changes_what_patterns_mean_is_none() {
        assert_eq!(
            CaseMap::learn("ctype f", [('％', '%')], []),
            Err(NoLetters('％', '%'))
        );
        assert_eq!(CaseMap::of(&named("ctype f")), None);
        assert_eq!(
            named("ctype f").collation_question(),
            None,
            "it would answer the same"
        );
    }
}
