//! [`CollationQuestion`]: what the server alone knows of collations, and is asked once a predicate depends on it.

use parking_lot::RwLock;

use super::CaseMap;

/// A question that the server has not been asked yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CollationQuestion {
    /// The letters of the ctype of this name, for [`CaseMap::learn`].
    Letters(String),
    /// The order of its library's `C.UTF-8`, for [`LibraryOrder::learn`].
    Order,
}

impl CollationQuestion {
    /// True if it has been asked meanwhile.
    pub fn is_answered(&self) -> bool {
        match self {
            CollationQuestion::Letters(name) => CaseMap::is_answered(name),
            CollationQuestion::Order => LibraryOrder::known().is_some(),
        }
    }
}

/// The way in which the server's C library orders texts under `C.UTF-8`: as their bytes since glibc 2.35 and in musl,
/// while what distributions shipped before had tables of their own. The name does not tell, so the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryOrder {
    /// By code point, which in UTF-8 is by byte.
    CodePoints,
    /// In another way.
    Other,
}

static LEARNT: RwLock<Option<LibraryOrder>> = RwLock::new(None);

impl LibraryOrder {
    /// The order, once the server was asked.
    pub fn known() -> Option<LibraryOrder> {
        *LEARNT.read()
    }

    /// Keeps what the server says, for as long as the process runs.
    pub fn learn(self) {
        *LEARNT.write() = Some(self);
    }
}
