//! [`SlotCheckRequest`]: has ingest look at its slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Has ingest look at its slot, wherever it is. Clones are of one ingest.
#[derive(Clone, Debug, Default)]
pub struct SlotCheckRequest(Arc<AtomicBool>);

impl SlotCheckRequest {
    /// The slot is to be looked at.
    pub fn give(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True if it is; asked once.
    pub(super) fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
