//! One stream of changes to many clients that all subscribe to it, against the same deliveries by a bare thread that
//! does nothing but one `write` for each.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::support::{self, Counter, Server, cpu};

/// (clients, changes a second, changes): paced so that each change is a delivery of its own, then as fast as it goes.
const RUNS: [(u64, u64, u64); 4] = [
    (1_000, 50, 500),
    (1_000, 100_000, 2_000),
    (5_000, 10, 100),
    (5_000, 100_000, 500),
];

/// About the length of a frame with one change of the table, header included.
const FRAME_BYTES: usize = 200;

pub(crate) fn run() {
    println!("\none stream of changes to many clients");
    println!(
        "  {:>8} {:>10} {:>14} {:>16} {:>12} {:>6}",
        "clients", "changes/s", "deliveries/s", "us CPU/delivery", "bare write", "ratio"
    );
    for (clients, rate, changes) in RUNS {
        let bare = bare(clients, rate, changes);
        let (took, used) = measure(clients, rate, changes);
        let deliveries = (clients * changes) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / deliveries;
        println!(
            "  {clients:>8} {:>10.0} {:>14.0} {:>16.2} {:>12.2} {:>6.2}",
            changes as f64 / took.as_secs_f64(),
            deliveries / took.as_secs_f64(),
            each(used),
            each(bare),
            each(used) / each(bare)
        );
    }
}

/// Counts what comes for a client.
fn count(mut client: Counter, received: &Arc<AtomicU64>) {
    let received = Arc::clone(received);
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let frames = client.read(&mut buffer).await;
            received.fetch_add(frames as u64, Ordering::Relaxed);
        }
    });
}

async fn until(received: &AtomicU64, deliveries: u64) {
    while received.load(Ordering::Relaxed) < deliveries {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The time that the deliveries took, and the CPU time of the server.
fn measure(clients: u64, rate: u64, changes: u64) -> (Duration, Duration) {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY, status text, amount numeric); CREATE PUBLICATION p FOR TABLE t");
    let server = Server::start(&cluster, "s", "p");
    let received = Arc::new(AtomicU64::new(0));
    let url = cluster.url("postgres");
    support::runtime().block_on(async {
        drop(support::connect(server.listen).await);
        for _ in 0..clients {
            let query = r#"{"type":"subscribe","id":"s","table":"t"}"#;
            count(Counter::connect(server.listen, query).await, &received);
        }
        let (cpu_before, began) = (cpu(server.pid()).unwrap(), Instant::now());
        let writer = thread::spawn(move || write(&url, rate, changes));
        until(&received, clients * changes).await;
        let took = began.elapsed();
        writer.join().unwrap();
        (took, cpu(server.pid()).unwrap() - cpu_before)
    })
}

/// The CPU time of a thread that writes the same number of frames at the same pace.
fn bare(clients: u64, rate: u64, changes: u64) -> Duration {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (ready, start) = std::sync::mpsc::channel();
    let writer = thread::spawn(move || {
        let accepted = (0..clients).map(|_| listener.accept().unwrap().0);
        let mut sockets: Vec<_> = accepted.collect();
        for socket in &sockets {
            socket.set_nodelay(true).unwrap();
        }
        let mut frame = vec![0x81, 126, 0, 0];
        frame.resize(FRAME_BYTES, b'x');
        frame[3] = (FRAME_BYTES - 4) as u8;
        start.recv().unwrap();
        let before = clock_gettime(ClockId::ThreadCPUTime);
        paced(rate, changes, |_| {
            for socket in &mut sockets {
                socket.write_all(&frame).unwrap();
            }
        });
        let used = clock_gettime(ClockId::ThreadCPUTime) - before;
        // Open until everything was read.
        (used, sockets)
    });
    let received = Arc::new(AtomicU64::new(0));
    support::runtime().block_on(async {
        for _ in 0..clients {
            count(Counter::on(TcpStream::connect(address).await.unwrap()), &received);
        }
        ready.send(()).unwrap();
        until(&received, clients * changes).await;
    });
    let (used, _sockets) = writer.join().unwrap();
    Duration::try_from(used).unwrap()
}

fn paced(rate: u64, changes: u64, mut change: impl FnMut(u64)) {
    let began = Instant::now();
    for i in 0..changes {
        let due = began + Duration::from_secs_f64(i as f64 / rate as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        change(i);
    }
}

fn write(url: &str, rate: u64, changes: u64) {
    let mut connection = Connection::connect(&ConnInfo::parse(url).unwrap(), Purpose::Application).unwrap();
    paced(rate, changes, |i| {
        connection
            .query(&format!("INSERT INTO t VALUES ({i}, 'paid', 12.50)"))
            .unwrap();
    });
}
