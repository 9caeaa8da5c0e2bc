//! Clients that mean harm beside clients that do not, hundreds of each in a thread: cheap enough that it is the server
//! which is under load.

mod attack;
mod regular;
mod wire;

pub use attack::{Attackers, Kind, Target};
pub use regular::Regulars;
#[allow(unused_imports, reason = "the benchmark prints it")]
pub use wire::End;
