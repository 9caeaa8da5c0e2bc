//! [`Collector`]: an HTTP server that takes spans by OTLP, or does not, and reads them without the library that wrote them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A span as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) parent: Vec<u8>,
    pub(crate) name: String,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The spans that it names as what led to it.
    pub(crate) links: Vec<Vec<u8>>,
    /// True if its status is an error.
    pub(crate) failed: bool,
}

/// Everything that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    /// The requests with their heads.
    pub(crate) bytes: Vec<u8>,
    pub(crate) spans: Vec<Span>,
    /// The attributes of the program.
    pub(crate) program: BTreeMap<String, String>,
}

/// A server of spans.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    came: Arc<Mutex<Came>>,
}

impl Collector {
    /// One that takes what it is sent.
    pub(crate) fn new() -> Collector {
        Collector::that(|came, stream| {
            // A request that breaks off is that of a program that was stopped.
            let _broken = take(came, stream);
        })
    }

    /// One that says nothing to whoever connects.
    pub(crate) fn silent() -> Collector {
        let held = Mutex::new(Vec::new());
        Collector::that(move |_, stream| held.lock().unwrap().push(stream))
    }

    fn that(answers: impl Fn(&Mutex<Came>, TcpStream) + Send + 'static) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let came = Arc::<Mutex<Came>>::default();
        let takes = Arc::clone(&came);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answers(&takes, stream);
            }
        });
        Collector { address, came }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn came(&self) -> Came {
        self.came.lock().unwrap().clone()
    }
}

fn take(came: &Mutex<Came>, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let value = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.to_owned()))
    };
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert_eq!(value("content-type").as_deref(), Some("application/x-protobuf"));
    let mut body = vec![0; value("content-length").unwrap().parse().unwrap()];
    reader.read_exact(&mut body)?;
    {
        let mut came = came.lock().unwrap();
        came.bytes.extend_from_slice(head.as_bytes());
        came.bytes.extend_from_slice(&body);
        read(&body, &mut came);
    }
    (&stream)
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
}

/// A value of a field of protobuf.
enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message of protobuf, by their numbers (protobuf.dev/programming-guides/encoding).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let mut cut = |length: usize| {
            let (value, rest) = bytes.split_at(length);
            bytes = rest;
            value
        };
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(cut(8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(value)
            }
            5 => Value::Number(u32::from_le_bytes(cut(4).try_into().unwrap()).into()),
            other => panic!("a field of type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The messages in the fields of that number.
fn parts(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let fields = fields(bytes).into_iter();
    let of = |(field, value)| match value {
        Value::Bytes(bytes) if field == number => Some(bytes),
        _ => None,
    };
    fields.filter_map(of).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads an `ExportTraceServiceRequest` (opentelemetry/proto/collector/trace/v1/trace_service.proto).
fn read(body: &[u8], came: &mut Came) {
    for resource_spans in parts(body, 1) {
        for resource in parts(resource_spans, 1) {
            came.program.extend(parts(resource, 1).into_iter().map(attribute));
        }
        for scope_spans in parts(resource_spans, 2) {
            came.spans.extend(parts(scope_spans, 2).into_iter().map(span));
        }
    }
}

fn span(bytes: &[u8]) -> Span {
    let mut span = Span::default();
    for (number, value) in fields(bytes) {
        match (number, value) {
            (1, Value::Bytes(id)) => span.trace = id.to_vec(),
            (2, Value::Bytes(id)) => span.id = id.to_vec(),
            (4, Value::Bytes(id)) => span.parent = id.to_vec(),
            (5, Value::Bytes(name)) => span.name = text(name),
            (7, Value::Number(time)) => span.began = time,
            (8, Value::Number(time)) => span.ended = time,
            (9, Value::Bytes(pair)) => span.attributes.extend([attribute(pair)]),
            (13, Value::Bytes(link)) => span.links.extend(parts(link, 2).into_iter().map(<[u8]>::to_vec)),
            (15, Value::Bytes(status)) => {
                let is_error = |field: &(u64, Value<'_>)| matches!(field, (3, Value::Number(2)));
                span.failed = fields(status).iter().any(is_error);
            }
            _ => {}
        }
    }
    span
}

fn attribute(pair: &[u8]) -> (String, String) {
    let mut key = String::new();
    let mut shown = String::new();
    for (number, field) in fields(pair) {
        match (number, field) {
            (1, Value::Bytes(name)) => key = text(name),
            (2, Value::Bytes(any)) => {
                for (kind, value) in fields(any) {
                    shown = match (kind, value) {
                        (1, Value::Bytes(string)) => text(string),
                        (_, Value::Number(number)) => number.to_string(),
                        (kind, _) => panic!("a value of kind {kind}"),
                    };
                }
            }
            _ => {}
        }
    }
    (key, shown)
}
