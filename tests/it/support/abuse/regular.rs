//! [`Regulars`]: clients that follow a table as they should, and notice when anything is missing, twice or out of order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

/// The moment at which a client had each change, from id 1 on.
pub type Receipts = Vec<Instant>;

/// Clients of `t`, in a thread of their own.
pub struct Regulars {
    live: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Receipts>>,
}

impl Regulars {
    /// So many clients, each of which follows the table until it has the row with the id `last`.
    pub fn follow(
        server: SocketAddr,
        number: usize,
        token: impl Fn(&str) -> String + Send + 'static,
        last: u64,
    ) -> Regulars {
        let live = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&live);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let clients = (0..number).map(|number| {
                let token = token(&format!("regular-{number}"));
                follow(server, token, last, Arc::clone(&counted))
            });
            runtime.unwrap().block_on(futures_util::future::join_all(clients))
        });
        Regulars { live, thread }
    }

    /// The number of those that are live.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// True if one of them has failed, or all have everything.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until all have everything.
    pub fn receipts(self) -> Vec<Receipts> {
        self.thread.join().expect("a client failed")
    }
}

async fn follow(server: SocketAddr, token: String, last: u64, live: Arc<AtomicUsize>) -> Receipts {
    let mut request = format!("ws://{server}/v1/stream").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    let socket = TcpStream::connect(server).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut socket, _) = client_async(request, socket).await.unwrap();
    let subscribe = r#"{"type":"subscribe","id":"s","table":"t"}"#;
    socket.send(Message::text(subscribe)).await.unwrap();
    let mut receipts = Receipts::new();
    while (receipts.len() as u64) < last {
        let message = socket.next().await.expect("the server closed").unwrap();
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str() {
            Some("live") => {
                live.fetch_add(1, Ordering::Relaxed);
            }
            Some("tx") => {
                for change in message["changes"].as_array().unwrap() {
                    let id = change["row"]["id"].as_u64().unwrap();
                    assert_eq!(id, receipts.len() as u64 + 1, "missing, twice or out of order");
                    receipts.push(Instant::now());
                }
            }
            Some("hello" | "subscribed" | "progress") => {}
            _ => panic!("{message}"),
        }
    }
    receipts
}
