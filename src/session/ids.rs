//! [`Ids`]: the ids of a connection's subscriptions. Pure.

use std::sync::Arc;

/// The ids of a connection's subscriptions. One subscription is told from another of the same name by the address of its
/// id: the name may be used again.
#[derive(Debug, Default)]
pub(super) struct Ids {
    used: Vec<Arc<str>>,
    /// The ids of subscriptions that were unsubscribed, until the client is told that they are over: messages of theirs
    /// may still be on their way, and must not be mistaken for those of another one.
    ending: Vec<Arc<str>>,
}

impl Ids {
    /// Takes a name, which must not be [known](Ids::is_known), for a new subscription.
    pub(super) fn take(&mut self, name: &str) -> Arc<str> {
        let id: Arc<str> = name.into();
        self.used.push(Arc::clone(&id));
        id
    }

    /// Begins to end the subscription of a name, and returns its id.
    pub(super) fn end(&mut self, name: &str) -> Option<Arc<str>> {
        let index = self.used.iter().position(|used| **used == *name)?;
        let id = self.used.swap_remove(index);
        self.ending.push(Arc::clone(&id));
        Some(id)
    }

    /// Begins to end a subscription, unless that was done already.
    pub(super) fn revoke(&mut self, id: &Arc<str>) {
        if let Some(index) = self.used.iter().position(|used| Arc::ptr_eq(used, id)) {
            self.ending.push(self.used.swap_remove(index));
        }
    }

    /// Frees the id of a subscription, whose end the client is told now.
    pub(super) fn free(&mut self, id: &Arc<str>) {
        self.used.retain(|used| !Arc::ptr_eq(used, id));
        self.ending.retain(|ending| !Arc::ptr_eq(ending, id));
    }

    /// True if the subscription that took this id still uses it.
    pub(super) fn holds(&self, id: &Arc<str>) -> bool {
        self.used.iter().any(|used| Arc::ptr_eq(used, id))
    }

    /// True if a subscription uses the name.
    pub(super) fn is_used(&self, name: &str) -> bool {
        self.used.iter().any(|used| **used == *name)
    }

    /// True if the subscription of the name is being ended.
    pub(super) fn is_ending(&self, name: &str) -> bool {
        self.ending.iter().any(|ending| **ending == *name)
    }

    /// True if the name is used, or its subscription is being ended.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.is_used(name) || self.is_ending(name)
    }

    /// The ids of subscriptions that are not being ended.
    pub(super) fn used(&self) -> &[Arc<str>] {
        &self.used
    }

    /// The number of subscriptions, including those that are being ended.
    pub(super) fn len(&self) -> usize {
        self.used.len() + self.ending.len()
    }
}
