//! A stream of wal2json: its messages are translated into those of pgoutput, and the catalogs are asked for what they
//! leave out.

use tokio_util::sync::CancellationToken;

use super::incoming::Incoming;
use super::upcoming::Upcoming;
use super::{Error, Ingest};
use crate::decode::wal2json::{Record, Translated, Translator};
use crate::log::{Log, LogWriter};

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Takes one message of wal2json.
    pub(super) fn wal2json_message(
        &mut self,
        translator: &mut Translator,
        incoming: &mut Incoming,
        body: &[u8],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let record = Record::parse(body)?;
        loop {
            match translator.translate(&record)? {
                Translated::Messages(messages) => {
                    for message in messages.iter() {
                        self.message(incoming, message, Upcoming::Nothing, stop)?;
                    }
                    return Ok(());
                }
                Translated::Unknown(table) => {
                    let xid = incoming.assembler.open_xid();
                    self.until_visible(&mut incoming.visible, xid, stop)?;
                    let (as_of, found) = self
                        .tables
                        .published_as(&table, incoming.assembler.open_commit())?;
                    if !translator.learn_table(&table, as_of, found) {
                        let why = "the table is gone, and wal2json does not say whether it was published";
                        tracing::warn!(event = "changes_left_out", %table, why, "changes are left out");
                    }
                }
            }
        }
    }
}
