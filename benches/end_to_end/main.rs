//! End-to-end benchmarks: a real Postgres, the real binary, real sockets.
//!
//! ```text
//! cargo bench --bench end_to_end -- drain      # against pg_recvlogical, interleaved
//! cargo bench --bench end_to_end -- latency    # from the commit's return to the websocket client
//! cargo bench --bench end_to_end -- idle       # memory and CPU of 5,000 quiet connections
//! cargo bench --bench end_to_end -- fanout     # one stream of changes to 1,000 and to 5,000 clients
//! cargo bench --bench end_to_end -- many       # a drain with one subscription and with 20,000, interleaved
//! cargo bench --bench end_to_end -- large      # a transaction of five million rows, and the small ones around it
//! cargo bench --bench end_to_end -- snapshot   # ten million rows, against COPY
//! cargo bench --bench end_to_end -- herd       # a live client while 5,000 others resume at once
//! cargo bench --bench end_to_end -- slow       # a live client beside 1,000 that take less than there is
//! cargo bench --bench end_to_end -- strain     # a live client while another table has heavy queries and large rows
//! cargo bench --bench end_to_end -- policies   # 100,000 subscriptions by a policy, and by their own predicates
//! cargo bench --bench end_to_end -- abuse      # 200 clients beside 2,000 that do all the harm that they can
//! cargo bench --bench end_to_end -- takeover   # a walcast that is killed beside a standby
//! ```
//!
//! Absolute figures depend on the machine; the ratios are measured within one run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod abuse;
mod drain;
mod fanout;
mod herd;
mod idle;
mod large;
mod latency;
mod many;
mod policies;
mod slow;
mod snapshot;
mod strain;
mod support;
mod takeover;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    support::raise_file_limit();
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    if wanted("drain") {
        drain::run();
    }
    if wanted("latency") {
        latency::run();
    }
    if wanted("idle") {
        idle::run();
    }
    if wanted("fanout") {
        fanout::run();
    }
    if wanted("many") {
        many::run();
    }
    if wanted("snapshot") {
        snapshot::run();
    }
    if wanted("herd") {
        herd::run();
    }
    if wanted("slow") {
        slow::run();
    }
    if wanted("strain") {
        strain::run();
    }
    if wanted("policies") {
        policies::run();
    }
    if wanted("abuse") {
        abuse::run();
    }
    if wanted("takeover") {
        takeover::run();
    }
    if wanted("large") {
        large::run();
    }
}
