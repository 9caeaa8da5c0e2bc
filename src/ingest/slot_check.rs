//! [`SlotCheckRequest`]: makes ingest check its slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes ingest check its slot, whatever it is doing. Clones are for the same ingest.
#[derive(Clone, Debug, Default)]
pub struct SlotCheckRequest(Arc<AtomicBool>);

impl SlotCheckRequest {
    /// Asks for a check of the slot.
    pub fn give(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True, once, if a check was asked for.
    pub(super) fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
