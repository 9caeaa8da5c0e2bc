//! [`Claims`]: what a verified token says of its bearer.

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

    /// The claims without some at the top.
    pub fn without(&self, names: &[&str]) -> Map<String, Json> {
        let mut rest = (*self.0).clone();
        rest.retain(|name, _| !names.contains(&name.as_str()));
        rest
    }

    /// The claim of a dotted path: a member of a member. A name that has dots itself, such as a URL, is found too where
    /// it stands at the top.
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
