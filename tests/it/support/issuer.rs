//! [`Issuer`]: signs tokens, and serves the keys to verify them by, well or badly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// A key, and its name.
pub struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    pub fn new(id: &str) -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey {
            id: id.to_owned(),
            pair: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(),
        }
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.id});
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = base64(self.pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn public(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": base64(self.pair.public_key())})
    }
}

/// Claims that are good for a while.
pub fn claims(subject: &str, role: &str) -> Value {
    json!({"sub": subject, "role": role, "exp": seconds_from_now(600)})
}

/// A `NumericDate`.
pub fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() as i64 + seconds
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The keys as a set.
pub fn set(keys: &[&SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()})
}

/// The way in which a server answers when it is asked for keys.
#[derive(Clone)]
pub enum Answer {
    Keys(Value),
    /// It fails.
    Fails,
    /// It says nothing.
    Stalls,
    /// It leads to another server.
    Redirects(SocketAddr),
    /// It sends more than anybody reads.
    Floods,
}

/// A server of keys.
pub struct Issuer {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<usize>>,
}

impl Issuer {
    pub fn new(answer: Answer) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(Mutex::new(0));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *count.lock().unwrap() += 1;
                let answer = answers.lock().unwrap().clone();
                thread::spawn(move || give(stream, &answer));
            }
        });
        Issuer {
            address,
            answer,
            asked,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The times that it was asked.
    pub fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

fn give(mut stream: TcpStream, answer: &Answer) {
    // Whoever asks may go at any time.
    let _gone = give_all(&mut stream, answer);
}

fn give_all(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _read = stream.read(&mut request)?;
    let head = |status: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n")
    };
    match answer {
        Answer::Keys(keys) => {
            let keys = keys.to_string();
            stream.write_all(format!("{}\r\n{keys}", head("200 OK", keys.len())).as_bytes())
        }
        Answer::Fails => stream.write_all(format!("{}\r\n", head("500 Internal Server Error", 0)).as_bytes()),
        Answer::Stalls => {
            thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Answer::Redirects(to) => {
            let location = format!("Location: http://{to}/jwks.json\r\n");
            stream.write_all(format!("{}{location}\r\n", head("302 Found", 0)).as_bytes())
        }
        Answer::Floods => {
            let flood = format!("{{\"keys\":[\"{}\"]}}", "x".repeat(2 * 1024 * 1024));
            stream.write_all(format!("{}\r\n{flood}", head("200 OK", flood.len())).as_bytes())
        }
    }
}
