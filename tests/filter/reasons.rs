//! The reason why predicates are refused here that Postgres takes: all reasons that there are, and how often random
//! predicates may meet them. A reason that is not here is a loss of the language, and so is one that is met more often.

use walcast::filter::Error;

/// Parts of messages, and how many of a thousand predicates may be refused with such.
pub(crate) const REASONS: &[(&str, usize)] = &[
    ("is not an ISO 8601", 30),
    ("whose collation folds letters in a way", 3),
    ("ordering text without a column of collation \"C\"", 30),
    ("ordering labels in arrays", 10),
    ("the order of its collation is known to the server alone", 80),
    ("COLLATE of a constant", 3),
    ("COLLATE behind a cast", 5),
    ("a cast of ", 15),
    ("is not the plain form of this interval", 20),
    ("is not the plain form of this inet", 3),
    ("is not the plain form of this cidr", 3),
    ("is not the plain form of this macaddr", 3),
    ("is not the plain form of this bytea", 3),
    ("(integers alone have it here)", 25),
    ("(of dates and times constants alone have it here", 3),
    ("the operator ? on what is no jsonb", 3),
    ("the sign of a cast", 3),
    ("the function ", 5),
    ("coalesce of ", 5),
    ("ordering jsonb", 20),
    ("ESCAPE with more than one character", 3),
    ("without a column", 10),
    ("a part of what is no column", 3),
    ("a pattern that ends in its escape character", 5),
    ("is not the plain form of this", 3),
    ("comparing ", 6),
    ("casting ", 5),
    ("is out of range for type", 1),
    ("the operator ", 3),
    ("a path through json that counts from the end", 3),
];

/// The first reason that fits the error; its message if none does.
pub(crate) fn reason(error: &Error) -> String {
    let message = error.to_string();
    let reason = REASONS.iter().find(|(part, _)| message.contains(part));
    reason.map_or(message, |(part, _)| (*part).to_owned())
}
