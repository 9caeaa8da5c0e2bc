//! The front: HTTP, its upgrade to websockets, and the admin listener.

mod admin;
mod origin;
mod server;
mod stream;

pub use admin::admin;
pub use origin::{Allowed, BadOrigin, Noted, Origin, Origins, Refused};
pub use server::{Options, Server};
pub use stream::{Gate, stream, unready};
