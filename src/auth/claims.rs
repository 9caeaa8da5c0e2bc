//! [`Claims`] of a verified token about its bearer.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

/// The claims of a token whose signature and times were verified. Printing them for debugging shows none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Claims(Arc<Map<String, Json>>);

impl Claims {
    /// The claims of a token.
    pub fn new(claims: Map<String, Json>) -> Claims {
        Claims(Arc::new(claims))
    }

    /// All claims, by their names.
    pub fn all(&self) -> &Map<String, Json> {
        &self.0
    }

    /// The claim at a dotted path of nested members. A top-level name that contains dots, such as a URL, is found too.
    pub fn get(&self, path: &str) -> Option<&Json> {
        if let Some(claim) = self.0.get(path) {
            return Some(claim);
        }
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |claim, name| claim.get(name))
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claims(…)")
    }
}
