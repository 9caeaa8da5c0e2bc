//! [`Limits`]: bounds on the text of a predicate.

/// The size that a predicate may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes of its text.
    pub max_text_bytes: usize,
    /// Its comparisons, tests and logical operators.
    pub max_nodes: usize,
    /// The depth to which it nests.
    pub max_depth: usize,
    /// The values of one `IN` list.
    pub max_in_values: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_text_bytes: 16 * 1024,
            max_nodes: 256,
            max_depth: 32,
            max_in_values: 1_000,
        }
    }
}
