//! [`Boundary`]: where transactions begin and end in a stream that is kept as it came. Pure.

use super::{Message, pgoutput, wal2json};
use crate::event::Timestamp;
use crate::lsn::Lsn;

/// The part that a message plays in a stream of whole transactions that is kept unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// A transaction begins.
    Begin {
        /// The start of its commit record.
        commit: Lsn,
        /// The low 32 bits of its ID.
        xid: u32,
    },
    /// It has ended.
    Commit {
        /// The start of its commit record.
        commit: Lsn,
        /// The end of that.
        end: Lsn,
        /// The time of its commit.
        committed_at: Timestamp,
    },
    /// A logical message that belongs to no transaction. It may be one that nobody asked for.
    Alone {
        /// The end of its record.
        at: Lsn,
    },
    /// Something between a beginning and an end, or of no consequence outside.
    Inside,
}

impl Boundary {
    /// Reads a message of pgoutput's.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_pgoutput(message: &[u8]) -> Result<Boundary, pgoutput::Error> {
        Ok(match Message::parse(message)? {
            Message::Begin { commit, xid, .. } => Boundary::Begin { commit, xid },
            Message::Commit {
                commit,
                end,
                committed_at,
            } => Boundary::Commit {
                commit,
                end,
                committed_at,
            },
            Message::Logical {
                transactional: false,
                at,
                ..
            } => Boundary::Alone { at },
            _ => Boundary::Inside,
        })
    }

    /// Reads a message of wal2json's.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_wal2json(message: &[u8]) -> Result<Boundary, wal2json::Error> {
        let record = wal2json::Record::parse(message)?;
        Ok(match record.action() {
            "B" => Boundary::Begin {
                commit: record.commit()?.0,
                xid: record.xid()?,
            },
            "C" => {
                let (commit, end) = record.commit()?;
                Boundary::Commit {
                    commit,
                    end,
                    committed_at: record.committed_at()?,
                }
            }
            _ => Boundary::Inside,
        })
    }

    /// The tables, by OID, whose descriptions a message of pgoutput's is read by.
    pub fn tables(message: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let (count, list) = match message.split_first() {
            Some((b'I' | b'U' | b'D', rest)) => (1, rest),
            // Their number, and a byte of options, come first.
            Some((b'T', rest)) => (usize::MAX, rest.get(5..).unwrap_or_default()),
            _ => (0, &[][..]),
        };
        let oids = list.as_chunks::<4>().0.iter();
        oids.take(count).map(|oid| u32::from_be_bytes(*oid))
    }

    /// The table that a message of pgoutput's describes.
    pub fn described(message: &[u8]) -> Option<u32> {
        let rest = message.strip_prefix(b"R")?;
        rest.first_chunk().map(|oid| u32::from_be_bytes(*oid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_pgoutputs_is_read_to_its_end() {
        let begin = b"B\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x01\0\0\0\x07";
        let commit = Lsn(10);
        let xid = 7;
        assert_eq!(Boundary::of_pgoutput(begin), Ok(Boundary::Begin { commit, xid }));
        let commit = b"C\0\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x0c\0\0\0\0\0\0\0\x01";
        let expected = Boundary::Commit {
            commit: Lsn(10),
            end: Lsn(12),
            committed_at: Timestamp(1),
        };
        assert_eq!(Boundary::of_pgoutput(commit), Ok(expected));
        let message = |flags| [b"M", &[flags][..], b"\0\0\0\0\0\0\0\x0ax\0\0\0\0\0"].concat();
        assert_eq!(
            Boundary::of_pgoutput(&message(0)),
            Ok(Boundary::Alone { at: Lsn(10) })
        );
        assert_eq!(Boundary::of_pgoutput(&message(1)), Ok(Boundary::Inside));
        let insert = b"I\0\0\0\x09N\0\0";
        assert_eq!(Boundary::of_pgoutput(insert), Ok(Boundary::Inside));
        assert!(Boundary::of_pgoutput(&insert[..7]).is_err());
        assert!(Boundary::of_pgoutput(b"").is_err());
        assert!(Boundary::of_pgoutput(&begin[..20]).is_err());
    }

    #[test]
    fn a_row_names_its_table_and_a_truncate_all_of_them() {
        let tables = |message: &[u8]| Boundary::tables(message).collect::<Vec<_>>();
        for kind in [b"I", b"U", b"D"] {
            assert_eq!(tables(&[&kind[..], b"\0\0\0\x09N\0\0\0\0\0"].concat()), [9]);
        }
        assert_eq!(tables(b"T\0\0\0\x02\0\0\0\0\x09\0\0\0\x0a"), [9, 10]);
        assert!(tables(b"B\0\0\0\x09").is_empty() && tables(b"").is_empty());
        assert_eq!(Boundary::described(b"R\0\0\0\x09public\0t\0"), Some(9));
        assert_eq!(Boundary::described(b"I\0\0\0\x09"), None);
    }

    #[test]
    fn wal2json_says_the_same_in_its_words() {
        let begin = br#"{"action":"B","xid":7,"timestamp":"2000-01-01 00:00:00.000001+00","lsn":"0/A","nextlsn":"0/C"}"#;
        let commit = Lsn(10);
        let xid = 7;
        assert_eq!(Boundary::of_wal2json(begin), Ok(Boundary::Begin { commit, xid }));
        let commit = br#"{"action":"C","xid":7,"timestamp":"2000-01-01 00:00:00.000001+00","lsn":"0/A","nextlsn":"0/C"}"#;
        let expected = Boundary::Commit {
            commit: Lsn(10),
            end: Lsn(12),
            committed_at: Timestamp(1),
        };
        assert_eq!(Boundary::of_wal2json(commit), Ok(expected));
        assert_eq!(
            Boundary::of_wal2json(br#"{"action":"I","schema":"public","table":"t"}"#),
            Ok(Boundary::Inside)
        );
        assert!(Boundary::of_wal2json(b"{").is_err());
    }
}
