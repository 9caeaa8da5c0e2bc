//! The cost of 5,000 quiet connections with one subscription each.

use std::time::Duration;

use crate::support::{self, Counter, Server, cpu, resident};

const CONNECTIONS: u64 = 5_000;
const WATCH: Duration = Duration::from_secs(20);

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY, tenant int); CREATE PUBLICATION p FOR TABLE t");
    let server = Server::start(&cluster, "s", "p");
    let runtime = support::runtime();
    runtime.block_on(async {
        drop(support::connect(server.listen).await);
        let before = resident(server.pid());
        let mut clients = Vec::new();
        for i in 0..CONNECTIONS {
            let query = format!(
                r#"{{"type":"subscribe","id":"s","table":"t","where":"tenant = {i}","undecided":"withhold"}}"#
            );
            clients.push(Counter::connect(server.listen, &query).await);
        }
        let bytes = (resident(server.pid()) - before) as f64 / CONNECTIONS as f64;
        let cpu_before = cpu(server.pid()).unwrap();
        tokio::time::sleep(WATCH).await;
        let used = cpu(server.pid()).unwrap() - cpu_before;
        println!("\n{CONNECTIONS} idle connections, one subscription each, each with a query of its own");
        println!("  {:.1} KiB resident per connection (goal 8)", bytes / 1024.0);
        println!(
            "  {:.2}% of a core in all, {:.2} us per connection and second",
            100.0 * used.as_secs_f64() / WATCH.as_secs_f64(),
            used.as_secs_f64() * 1e6 / CONNECTIONS as f64 / WATCH.as_secs_f64()
        );
    });
}
