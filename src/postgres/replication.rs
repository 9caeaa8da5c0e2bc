//! Messages inside CopyData while a replication stream is open. Pure.
//!
//! The formats are those of the documentation's chapter "Streaming Replication Protocol": XLogData and the primary's
//! keepalive one way, the standby's status update the other.

use super::wire::{Reader, WireError};
use crate::event::Timestamp;
use crate::lsn::Lsn;

/// A message of the server inside CopyData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamMessage<'a> {
    /// A message of the output plugin.
    Data {
        wal_start: Lsn,
        wal_end: Lsn,
        sent_at: Timestamp,
        body: &'a [u8],
    },
    /// The server's position while it has nothing to send, or because it wants to know ours.
    Keepalive {
        wal_end: Lsn,
        sent_at: Timestamp,
        reply_requested: bool,
    },
}

impl<'a> StreamMessage<'a> {
    /// Reads the body of a CopyData message.
    pub(super) fn parse(body: &'a [u8]) -> Result<StreamMessage<'a>, WireError> {
        let mut reader = Reader(body);
        match reader.u8("kind")? {
            b'w' => Ok(StreamMessage::Data {
                wal_start: Lsn(reader.u64("start of WAL")?),
                wal_end: Lsn(reader.u64("end of WAL")?),
                sent_at: Timestamp(reader.u64("time of sending")?.cast_signed()),
                body: reader.0,
            }),
            b'k' => Ok(StreamMessage::Keepalive {
                wal_end: Lsn(reader.u64("end of WAL")?),
                sent_at: Timestamp(reader.u64("time of sending")?.cast_signed()),
                reply_requested: reader.u8("reply flag")? != 0,
            }),
            kind => Err(WireError::Replication(kind)),
        }
    }
}

/// A report of our progress to the server. The slot's `confirmed_flush_lsn` follows `flushed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Up to where we received and wrote.
    pub written: Lsn,
    /// Up to where it is on disk: the server may forget what lies before, and never sends it again.
    pub flushed: Lsn,
    /// Up to where it took effect; nothing in logical replication depends on it.
    pub applied: Lsn,
    /// True if the server is to answer at once with a keepalive.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// All three positions at `lsn`.
    pub fn all_at(lsn: Lsn) -> StatusUpdate {
        StatusUpdate {
            written: lsn,
            flushed: lsn,
            applied: lsn,
            reply_requested: false,
        }
    }

    /// The whole CopyData message.
    pub(super) fn encode(&self, now: Timestamp) -> Vec<u8> {
        const BODY: u32 = 1 + 4 * 8 + 1;
        let mut message = Vec::with_capacity(1 + 4 + BODY as usize);
        message.push(b'd');
        message.extend_from_slice(&(4 + BODY).to_be_bytes());
        message.push(b'r');
        for lsn in [self.written, self.flushed, self.applied] {
            message.extend_from_slice(&lsn.0.to_be_bytes());
        }
        message.extend_from_slice(&now.0.to_be_bytes());
        message.push(u8::from(self.reply_requested));
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn data_and_keepalives_read_as_documented() {
        let data = b"w\0\0\0\x16\xB3\x74\xD8\x48\0\0\0\x16\xB3\x74\xD8\x50\0\0\0\0\0\0\0\x01Bxyz";
        let expected = StreamMessage::Data {
            wal_start: "16/B374D848".parse().unwrap(),
            wal_end: "16/B374D850".parse().unwrap(),
            sent_at: Timestamp(1),
            body: b"Bxyz",
        };
        assert_eq!(StreamMessage::parse(data), Ok(expected));
        let keepalive = b"k\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let expected = StreamMessage::Keepalive {
            wal_end: "1/2".parse().unwrap(),
            sent_at: Timestamp(-1),
            reply_requested: true,
        };
        assert_eq!(StreamMessage::parse(keepalive), Ok(expected));
        for cut in 0..keepalive.len() {
            let parsed = StreamMessage::parse(&keepalive[..cut]);
            assert!(
                matches!(parsed, Err(WireError::Truncated(_))),
                "cut at {cut}: {parsed:?}"
            );
        }
    }

    #[test]
    fn a_status_update_is_one_copy_data_message() {
        let update = StatusUpdate {
            written: Lsn(1),
            flushed: Lsn(2),
            applied: Lsn(3),
            reply_requested: true,
        };
        let expected =
            b"d\0\0\0\x26r\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\x01";
        assert_eq!(update.encode(Timestamp(4)), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(body: Vec<u8>) {
            drop(StreamMessage::parse(&body));
        }
    }
}
