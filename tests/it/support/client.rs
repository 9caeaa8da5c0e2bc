//! [`Client`]: a websocket client. Blocking, so that a test reads like a transcript.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

use walcast::lsn::Lsn;

use super::{DEADLINE, Line};

/// A connected client that has heard hello.
pub struct Client {
    socket: WebSocket<Line>,
    pub hello: Value,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<String>,
    /// Messages that were read while another was waited for.
    waiting: VecDeque<Value>,
}

/// The next event from the server.
#[derive(Debug)]
pub enum Incoming<M = Value> {
    Message(M),
    /// Nothing, in the time given.
    Nothing,
    End(End),
}

/// The way in which a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Closed(u16, String),
    Lost,
}

/// An HTTP answer instead of a websocket.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address, "/v1/stream", &[]).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// Connects, or is refused; status 0 if there is nobody to answer.
    pub fn try_connect(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Refused> {
        Client::greeted(Client::open(address, path, headers)?)
    }

    /// Connects over a connection of one's own, or is refused.
    pub fn over(line: Line, headers: &[(&'static str, &str)]) -> Result<Client, Refused> {
        Client::greeted(Client::upgraded(line, "/v1/stream", headers)?)
    }

    fn greeted(mut client: Client) -> Result<Client, Refused> {
        match client.read(Instant::now() + DEADLINE) {
            Incoming::Message(hello) => {
                assert_eq!(hello["type"], "hello", "{hello}");
                client.hello = hello;
                Ok(client)
            }
            other => Err(gone(format!("no hello: {other:?}"))),
        }
    }

    /// Connects as [`Client::try_connect`] does, and reads nothing: the first message is `hello`.
    pub fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Refused> {
        let line = Line::plain(address).map_err(|e| gone(e.to_string()))?;
        Client::upgraded(line, path, headers)
    }

    fn upgraded(line: Line, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, Refused> {
        let address = line.socket().peer_addr().map_err(|e| gone(e.to_string()))?;
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for &(name, value) in headers {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).unwrap());
        }
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        match tungstenite::client::client_with_config(request, line, Some(config)) {
            Ok((socket, response)) => {
                let subprotocol = response.headers().get("sec-websocket-protocol");
                Ok(Client {
                    subprotocol: subprotocol.map(|value| value.to_str().unwrap().to_owned()),
                    socket,
                    hello: Value::Null,
                    waiting: VecDeque::new(),
                })
            }
            Err(HandshakeError::Failure(Error::Http(response))) => Err(Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Err(error) => Err(gone(error.to_string())),
        }
    }

    /// Has the kernel take little for it while it does not read, so that the other side soon notices. Returns the line,
    /// to cut it while a thread waits for it.
    pub fn takes_little(&self) -> TcpStream {
        let line = self.socket.get_ref().socket();
        socket2::SockRef::from(line).set_recv_buffer_size(4096).unwrap();
        line.try_clone().unwrap()
    }

    pub fn line(&self) -> &Line {
        self.socket.get_ref()
    }

    pub fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// Sends a text message of bytes that need not be text.
    pub fn send_text_of(&mut self, bytes: &[u8]) {
        let frame = Frame::message(bytes.to_vec(), OpCode::Data(Data::Text), true);
        self.socket.send(Message::Frame(frame)).unwrap();
    }

    /// Sends where the connection may be gone.
    pub fn try_send(&mut self, message: &Value) -> bool {
        self.socket.send(Message::text(message.to_string())).is_ok()
    }

    /// Subscribes and waits for the answer, which has to be `subscribed`. What comes before it is kept for later.
    pub fn subscribe(&mut self, mut subscribe: Value) -> Value {
        subscribe["type"] = json!("subscribe");
        self.send(&subscribe);
        self.await_answer(&subscribe["id"], "subscribed")
    }

    /// Subscribes where that is refused, and returns the error, which has to name the subscription.
    pub fn subscribe_refused(&mut self, mut subscribe: Value) -> Value {
        subscribe["type"] = json!("subscribe");
        self.send(&subscribe);
        let error = self.await_answer(&subscribe["id"], "error");
        assert!(
            error["message"].as_str().is_some_and(|text| text.len() > 10),
            "{error}"
        );
        error
    }

    /// Subscribes to the rows that are there, and returns them once it is live.
    pub fn snapshot(&mut self, mut subscribe: Value) -> Vec<Value> {
        subscribe["snapshot"] = json!(true);
        self.subscribe(subscribe);
        let mut rows = Vec::new();
        loop {
            let message = self.next();
            match message["type"].as_str() {
                Some("snapshot") => rows.extend(message["rows"].as_array().into_iter().flatten().cloned()),
                Some("live") => return rows,
                _ => panic!("not a snapshot: {message}"),
            }
        }
    }

    /// Subscribes from now on, and waits until it moves with the connection.
    pub fn subscribe_live(&mut self, subscribe: Value) -> Value {
        let subscribed = self.subscribe(subscribe);
        self.await_answer(&subscribed["id"], "live");
        subscribed
    }

    /// Subscribes from now on to a table whose columns were changed a moment ago, of which the subscription may still
    /// be told: the error.
    pub fn try_subscribe_live(&mut self, subscribe: Value) -> Result<Value, Value> {
        let subscribed = self.subscribe(subscribe);
        self.answer(&subscribed["id"], "live")?;
        Ok(subscribed)
    }

    /// The answer of this type about this subscription; what comes before it is kept for later.
    fn await_answer(&mut self, id: &Value, expected: &str) -> Value {
        self.answer(id, expected)
            .unwrap_or_else(|refusal| panic!("no {expected}: {refusal}"))
    }

    /// The answer of this type about this subscription, or the error; what comes before it is kept for later.
    fn answer(&mut self, id: &Value, expected: &str) -> Result<Value, Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.read(until) {
                Incoming::Message(answer) if answer["id"] == *id && answer["type"] == expected => {
                    return Ok(answer);
                }
                Incoming::Message(refusal) if refusal["id"] == *id && refusal["type"] == "error" => {
                    return Err(refusal);
                }
                Incoming::Message(other) => self.waiting.push_back(other),
                end => panic!("no {expected} for {id}: {end:?}"),
            }
        }
    }

    /// Waits until everything up to this position was sent to this connection, which is kept for later. What it
    /// subscribes to then begins after it.
    pub fn comes_up_to(&mut self, position: Lsn) {
        let reference = json!("comes up to");
        self.send(&json!({"type": "ping", "ref": reference, "reach": position.to_string()}));
        let until = Instant::now() + DEADLINE;
        loop {
            match self.read(until) {
                Incoming::Message(pong) if pong["type"] == "pong" && pong["ref"] == reference => return,
                Incoming::Message(other) => self.waiting.push_back(other),
                end => panic!("no pong: {end:?}"),
            }
        }
    }

    pub fn unsubscribe(&mut self, id: &str) {
        self.send(&json!({"type": "unsubscribe", "id": id}));
        self.await_answer(&json!(id), "unsubscribed");
        self.waiting.retain(|message| message["id"] != id);
    }

    /// The next message, if one comes by then.
    pub fn next_by(&mut self, until: Instant) -> Incoming {
        match self.waiting.pop_front() {
            Some(message) => Incoming::Message(message),
            None => self.read(until),
        }
    }

    /// The next message.
    pub fn next_of_any_type(&mut self) -> Value {
        match self.next_by(Instant::now() + DEADLINE) {
            Incoming::Message(message) => message,
            end => panic!("no message: {end:?}"),
        }
    }

    /// The next message but progress, which does not put the deadline off.
    pub fn next(&mut self) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next_by(until) {
                Incoming::Message(message) if message["type"] == "progress" => {}
                Incoming::Message(message) => return message,
                end => panic!("no message: {end:?}"),
            }
        }
    }

    /// The next message but progress, which has to be of this type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let message = self.next();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next transaction; `live` may come before it.
    pub fn tx(&mut self) -> Value {
        let message = self.next();
        if message["type"] == "live" {
            return self.expect("tx");
        }
        assert_eq!(message["type"], "tx", "{message}");
        message
    }

    /// The changes of the next transaction, which has to come in one frame.
    pub fn changes(&mut self) -> Vec<Value> {
        let tx = self.tx();
        assert_ne!(tx["more"], json!(true), "{tx}");
        tx["changes"].as_array().unwrap().clone()
    }

    /// The only change of the next transaction.
    pub fn change(&mut self) -> Value {
        let mut changes = self.changes();
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes.remove(0)
    }

    /// The text of the next transaction's frame, for those who look at how it is written.
    pub fn tx_text(&mut self) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next_text(until) {
                Incoming::Message(text) if text.contains("\"type\":\"tx\"") => return text,
                Incoming::Message(_) => {}
                end => panic!("no transaction: {end:?}"),
            }
        }
    }

    /// The next error.
    pub fn error(&mut self) -> Value {
        self.expect("error")
    }

    /// Reads until the connection ends.
    pub fn end(&mut self) -> End {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next_by(until) {
                Incoming::Message(_) => {}
                Incoming::Nothing => panic!("the connection did not end"),
                Incoming::End(end) => return end,
            }
        }
    }

    fn read(&mut self, until: Instant) -> Incoming {
        match self.next_text(until) {
            Incoming::Message(text) => {
                assert!(!text.contains("ABORTED"), "what was rolled back was sent: {text}");
                Incoming::Message(serde_json::from_str(&text).unwrap())
            }
            Incoming::Nothing => Incoming::Nothing,
            Incoming::End(end) => Incoming::End(end),
        }
    }

    /// The next message as it is written, if one comes by then; of those that were read already, none.
    pub fn next_text(&mut self, until: Instant) -> Incoming<String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            // It can only fail on a socket that is gone, which the read finds out as well.
            drop(self.socket.get_ref().socket().set_read_timeout(Some(left)));
            match self.socket.read() {
                Ok(Message::Text(text)) => return Incoming::Message(text.to_string()),
                Ok(Message::Close(frame)) => {
                    // Our answer to it, if the server still listens.
                    drop(self.socket.flush());
                    let end = frame.map_or(End::Lost, |frame| {
                        End::Closed(frame.code.into(), frame.reason.to_string())
                    });
                    return Incoming::End(end);
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("{other:?}"),
                // The whole process was stopped and goes on: of a socket with a timeout, Linux says so.
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= until {
                        return Incoming::Nothing;
                    }
                }
                Err(error) => {
                    eprintln!("a connection was lost: {error}");
                    return Incoming::End(End::Lost);
                }
            }
        }
    }
}

/// Nobody is there to answer.
fn gone(error: String) -> Refused {
    Refused {
        status: 0,
        body: error,
    }
}
