//! The check that the journal and the server share one unbroken history. Pure.
//!
//! Postgres does not report it if they do not: a stream that is asked to start below the slot's confirmed position
//! silently starts at that position, and one that starts beyond the server's end skips what comes between. So the
//! positions are compared before every start.

use std::fmt;

use crate::lsn::Lsn;
use crate::postgres::TimelineSwitch;

/// The journal's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ours {
    /// The newest position.
    pub(super) head: Lsn,
    /// The timeline that it was received on.
    pub(super) timeline: u32,
}

/// The server's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Theirs {
    /// The position up to which the slot was confirmed: nothing before it is ever sent again.
    pub(super) confirmed: Lsn,
    /// The position up to which the server has written.
    pub(super) written: Lsn,
    /// The server's timeline.
    pub(super) timeline: u32,
    /// The timeline's history, oldest switch first.
    pub(super) switches: Vec<TimelineSwitch>,
}

/// The reason why a history cannot be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The slot was confirmed beyond the journal's head: the changes between are lost.
    Gap { head: Lsn, confirmed: Lsn },
    /// The server's history ends before ours: it was restored from a backup, or replaced by a copy that lacks what we
    /// have seen.
    Rewound { head: Lsn, end: Lsn },
    /// The server is on a timeline that did not branch off from ours.
    OtherTimeline { ours: u32, theirs: u32 },
    /// The slot takes the place of one that is gone.
    Recreated { head: Lsn, confirmed: Lsn },
    /// Another walcast read the slot, and the server has changed since.
    UnknownDelivery { head: Lsn, confirmed: Lsn },
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Break::Gap { head, confirmed } => write!(
                f,
                "the slot was confirmed up to {confirmed}, the journal ends at {head}: the changes between are lost"
            ),
            Break::Rewound { head, end } => write!(
                f,
                "the journal ends at {head}, the server's history has only come to {end}: it was restored or replaced"
            ),
            Break::Recreated { head, confirmed } => write!(
                f,
                "the slot was created again at {confirmed}, the journal ends at {head}: the changes between are lost"
            ),
            Break::UnknownDelivery { head, confirmed } => write!(
                f,
                "another walcast has read the slot, which is confirmed up to {confirmed}, and what it delivered cannot be \
                 told from here; the journal ends at {head}"
            ),
            Break::OtherTimeline { ours, theirs } => {
                write!(
                    f,
                    "the server is on timeline {theirs}, which does not descend from timeline {ours}"
                )
            }
        }
    }
}

/// Compares both sides. `Ok` if the stream can continue at the journal's head.
pub(super) fn compare(ours: Ours, theirs: &Theirs) -> Result<(), Break> {
    let head = ours.head;
    if ours.timeline != theirs.timeline {
        let left = theirs
            .switches
            .iter()
            .find(|switch| switch.timeline == ours.timeline);
        match left {
            Some(switch) if head <= switch.at => {}
            Some(switch) => return Err(Break::Rewound { head, end: switch.at }),
            None => {
                return Err(Break::OtherTimeline {
                    ours: ours.timeline,
                    theirs: theirs.timeline,
                });
            }
        }
    }
    if theirs.written < head {
        return Err(Break::Rewound {
            head,
            end: theirs.written,
        });
    }
    if head < theirs.confirmed {
        return Err(Break::Gap {
            head,
            confirmed: theirs.confirmed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs(confirmed: u64, written: u64, timeline: u32, switches: &[(u32, u64)]) -> Theirs {
        let switches = switches
            .iter()
            .map(|&(timeline, at)| TimelineSwitch {
                timeline,
                at: Lsn(at),
            })
            .collect();
        Theirs {
            confirmed: Lsn(confirmed),
            written: Lsn(written),
            timeline,
            switches,
        }
    }

    fn ours(head: u64) -> Ours {
        Ours {
            head: Lsn(head),
            timeline: 1,
        }
    }

    #[test]
    fn a_head_between_the_confirmed_position_and_the_servers_end_goes_on() {
        for head in [100, 150, 200] {
            assert_eq!(compare(ours(head), &theirs(100, 200, 1, &[])), Ok(()), "{head}");
        }
    }

    #[test]
    fn a_slot_that_was_confirmed_beyond_the_head_is_a_gap() {
        let gap = Break::Gap {
            head: Lsn(99),
            confirmed: Lsn(100),
        };
        assert_eq!(compare(ours(99), &theirs(100, 200, 1, &[])), Err(gap));
    }

    #[test]
    fn a_server_that_has_not_come_so_far_was_rewound() {
        let rewound = Break::Rewound {
            head: Lsn(201),
            end: Lsn(200),
        };
        assert_eq!(compare(ours(201), &theirs(100, 200, 1, &[])), Err(rewound));
    }

    #[test]
    fn after_a_failover_only_what_lay_before_the_switch_goes_on() {
        let promoted = theirs(100, 300, 3, &[(1, 150), (2, 180)]);
        assert_eq!(compare(ours(150), &promoted), Ok(()));
        assert_eq!(
            compare(ours(151), &promoted),
            Err(Break::Rewound {
                head: Lsn(151),
                end: Lsn(150)
            })
        );
        let stranger = theirs(100, 300, 3, &[(2, 180)]);
        assert_eq!(
            compare(ours(150), &stranger),
            Err(Break::OtherTimeline { ours: 1, theirs: 3 })
        );
    }
}
