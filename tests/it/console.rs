//! The console on the admin listener: access to it, and its answers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Client, Refused, Walcast, http};

mod access;
mod told;

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE orders (id int PRIMARY KEY, status text COLLATE \"C\", amount int, feels mood, secret text);
    ALTER TABLE orders REPLICA IDENTITY FULL;
    CREATE TABLE keyed (id int PRIMARY KEY, status text);
    CREATE TABLE plain (a int); CREATE TABLE plain2 (a int); CREATE TABLE plain3 (a int); CREATE TABLE plain4 (a int);
    CREATE TABLE plain5 (a int); CREATE TABLE plain6 (a int); CREATE TABLE \"Plain7\" (a int);
    CREATE PUBLICATION pub FOR TABLE orders, keyed, plain, plain2, plain3, plain4, plain5, plain6, \"Plain7\";
";
const TOKEN: &str = "0123456789abcdef";

/// The head, in lower case, and the body of the answer to a request.
fn ask(address: SocketAddr, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let length = match body.len() {
        _ if headers.contains("chunked") => String::new(),
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    let request = format!("{request} HTTP/1.1\r\nhost: {address}\r\n{length}{headers}\r\n{body}");
    let answer = http(address, &request).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn get(walcast: &Walcast, path: &str) -> Value {
    get_with(walcast, path, "")
}

fn get_with(walcast: &Walcast, path: &str, headers: &str) -> Value {
    let (status, _, body) = ask(walcast.admin(), &format!("GET {path}"), headers, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The status and the error's code of a request that is refused in JSON.
fn refusal(walcast: &Walcast, request: &str, headers: &str, body: &str) -> (u16, String) {
    let (status, _, answer) = ask(walcast.admin(), request, headers, body);
    let error: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{request}: {answer}"));
    let words = error["error"]["message"].as_str().unwrap();
    assert!(words.len() > 10, "{error}");
    (status, error["error"]["code"].as_str().unwrap().to_owned())
}

fn parse(walcast: &Walcast, query: &Value) -> Value {
    let (status, _, body) = ask(walcast.admin(), "POST /api/parse", "", &query.to_string());
    assert_eq!(status, 200, "{query}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A websocket of an operator.
fn operator(walcast: &Walcast, headers: &[(&'static str, &str)]) -> Result<Client, Refused> {
    Client::try_connect(walcast.admin(), "/v1/stream", headers)
}

/// A file with the token, and the flag's value that names it.
fn token_file(directory: &TempDir) -> String {
    let file = directory.path().join("admin.token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}
