//! The further tables, and what is written to them.

use fastrand::Rng;

use crate::{ledger, person, said, shapes};

/// A statement on one of them, or none: then it is the workload's own turn.
pub(crate) fn statement(rng: &mut Rng) -> Option<String> {
    Some(match rng.u32(0..20) {
        0..2 => said::statement(rng),
        2..5 => ledger::statement(rng),
        5..7 => person::statement(rng),
        7..10 => shapes::statement(rng),
        _ => return None,
    })
}
