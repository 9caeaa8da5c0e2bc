//! Limits on clients' requests, and the subjects that share them. Pure: time is an argument.

mod bucket;
mod names;
mod room;
mod subjects;
mod turns;

pub use bucket::{Bucket, Rate, SharedBucket};
pub use names::Limit;
pub use subjects::{Member, SnapshotPlace, SubjectLimits, Subjects};
pub use turns::Turns;
