//! Reads a replication slot up to a position and throws everything away: how fast the stream comes by itself.
//!
//!     cargo run --release --example drain -- URL SLOT PUBLICATION [END|now [NAP_MICROS]]
//!
//! Nothing is confirmed: the slot can be drained again. A nap of 0 reads as soon as there is something.

use std::time::{Duration, Instant};

use walcast::lsn::Lsn;
use walcast::postgres::{
    ConnInfo, Connection, Frame, Pacing, Publication, Purpose, ReplicationStream, SlotName, StartReplication,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, slot, publication, rest) = match arguments.as_slice() {
        [url, slot, publication, rest @ ..] => (url, slot, publication, rest),
        _ => anyhow::bail!("usage: drain URL SLOT PUBLICATION [END|now [NAP_MICROS]]"),
    };
    let mut connection = Connection::connect(&ConnInfo::parse(url)?, Purpose::Replication)?;
    let now = connection.identify_system()?.wal_position;
    let end = rest.first().filter(|end| *end != "now");
    let end = end.map_or(Ok(now), |end| end.parse::<Lsn>())?;
    let publications = [Publication::new(publication)?];
    let start = StartReplication::pgoutput(SlotName::new(slot)?, Lsn::ZERO, &publications);
    let ReplicationStream { mut receiver, .. } = connection.start_replication(&start)?;
    if let Some(nap) = rest.get(1) {
        receiver.set_pacing(Pacing::new(Duration::from_micros(nap.parse()?)));
    }
    let started = Instant::now();
    let (mut rows, mut bytes, mut reads) = (0u64, 0, 0u64);
    let mut at = Lsn::ZERO;
    while at < end {
        receiver.fill(Duration::from_secs(10))?;
        reads += 1;
        while let Some(frame) = receiver.next()? {
            match frame {
                Frame::Data { body, wal_end, .. } => {
                    bytes += body.len();
                    at = at.max(wal_end);
                    rows += u64::from(matches!(body.first(), Some(b'I' | b'U' | b'D')));
                }
                Frame::Keepalive { wal_end, .. } => at = at.max(wal_end),
                Frame::Notice(_) => {}
                Frame::End => anyhow::bail!("the server shut down"),
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{rows} rows, {bytes} bytes, {reads} reads in {seconds:.2} s: {:.0} rows/s",
        rows as f64 / seconds
    );
    Ok(())
}
