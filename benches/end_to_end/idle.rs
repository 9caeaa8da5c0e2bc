//! The cost of 5,000 quiet connections with one subscription each; of another number with `WALCAST_IDLE=16000`.

use std::time::{Duration, Instant};

use crate::support::{self, Counter, Server, cpu, resident};

const CONNECTIONS: u64 = 5_000;
const WATCH: Duration = Duration::from_secs(20);

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY, tenant int); CREATE PUBLICATION p FOR TABLE t");
    let number = std::env::var("WALCAST_IDLE").map_or(CONNECTIONS, |number| number.parse().unwrap());
    let flags = [
        format!("--max-connections={number}"),
        "--max-handshakes=64".to_owned(),
    ];
    let server = Server::start_with(&cluster, "s", "p", &flags.each_ref().map(String::as_str));
    let runtime = support::runtime();
    runtime.block_on(async {
        drop(support::connect(server.listen).await);
        let before = resident(server.pid());
        let kernel_before = kernel_bytes();
        let mut clients = Vec::new();
        let began = Instant::now();
        for i in 0..number {
            let query = format!(
                r#"{{"type":"subscribe","id":"s","table":"t","where":"tenant = {i}","undecided":"withhold"}}"#
            );
            clients.push(Counter::connect(server.listen, &query).await);
        }
        let took = began.elapsed();
        let bytes = (resident(server.pid()) - before) as f64 / number as f64;
        let kernel = kernel_bytes().saturating_sub(kernel_before) as f64 / number as f64;
        let cpu_before = cpu(server.pid()).unwrap();
        tokio::time::sleep(WATCH).await;
        let used = cpu(server.pid()).unwrap() - cpu_before;
        println!("\n{number} idle connections, one subscription each, each with a query of its own");
        println!("  {:.1} KiB resident per connection (goal 8)", bytes / 1024.0);
        println!(
            "  {:.1} KiB of the kernel's memory for both ends of a connection",
            kernel / 1024.0
        );
        println!("  made one after the other in {:.1} s", took.as_secs_f64());
        println!(
            "  {:.2}% of a core in all, {:.2} us per connection and second",
            100.0 * used.as_secs_f64() / WATCH.as_secs_f64(),
            used.as_secs_f64() * 1e6 / number as f64 / WATCH.as_secs_f64()
        );
    });
}

/// Memory that the kernel has for objects of its own, sockets among them, in bytes.
fn kernel_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("Slab:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
