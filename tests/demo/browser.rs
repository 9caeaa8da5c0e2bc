//! A real browser, driven through its DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use super::process::{PATIENCE, wait_for};

/// A browser with one page open. It ends with this value.
pub(crate) struct Page {
    child: Child,
    profile: Option<tempfile::TempDir>,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Value,
    calls: u64,
    /// Exceptions of the page's scripts, and what the browser logged as errors.
    pub(crate) errors: Vec<String>,
}

const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
];

impl Page {
    pub(crate) fn open(url: &str) -> Page {
        Page::open_with(url, &[])
    }

    /// With further flags for the browser.
    pub(crate) fn open_with(url: &str, flags: &[&str]) -> Page {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(program())
            .args(FLAGS)
            .args(flags)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                line.unwrap()
                    .strip_prefix("DevTools listening on ")
                    .map(str::to_owned)
            })
            .expect("the browser says where it listens");
        // The browser goes on talking: somebody has to listen.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(address).unwrap();
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut page = Page {
            child,
            profile: Some(profile),
            socket,
            session: Value::Null,
            calls: 0,
            errors: Vec::new(),
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        page.session = page.call("Target.attachToTarget", attach)["sessionId"].clone();
        page.call("Runtime.enable", json!({}));
        page.call("Log.enable", json!({}));
        page.resize(1280, 800);
        page.call("Page.navigate", json!({"url": url}));
        page
    }

    /// Sends a command and returns its result.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": params});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == self.calls {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            let is_error = message["method"] == "Runtime.exceptionThrown"
                || message["method"] == "Log.entryAdded" && message["params"]["entry"]["level"] == "error";
            if is_error {
                self.errors.push(message["params"].to_string());
            }
        }
    }

    /// The value of a JavaScript expression.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "userGesture": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until a JavaScript condition holds.
    pub(crate) fn wait(&mut self, condition: &str) {
        let errors = &self.errors.clone();
        wait_for(&format!("{condition} (errors so far: {errors:?})"), || {
            (self.eval(condition) == true).then_some(())
        });
    }

    /// The text of an element, without what is hidden.
    pub(crate) fn text(&mut self, id: &str) -> String {
        let text = self.eval(&format!("document.getElementById('{id}').innerText"));
        text.as_str().unwrap().to_owned()
    }

    pub(crate) fn click(&mut self, id: &str) {
        self.eval(&format!("document.getElementById('{id}').click()"));
    }

    /// Types into a field, in place of what is there.
    pub(crate) fn type_into(&mut self, id: &str, text: &str) {
        self.eval(&format!("document.getElementById('{id}').select()"));
        self.call("Input.insertText", json!({"text": text}));
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Saves a picture of the page, a PNG file.
    pub(crate) fn save(&mut self, path: &str) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(File::create(path).unwrap())
            .spawn()
            .unwrap();
        let text = picture["data"].as_str().unwrap();
        decode.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // Its helpers end a little later, and may still write there.
        if let Some(profile) = self.profile.take() {
            let path = profile.keep();
            wait_for("the browser's profile to be removed", || {
                (std::fs::remove_dir_all(&path).is_ok() || !path.exists()).then_some(())
            });
        }
    }
}

/// The browser: `$CHROMIUM`, else one in `$PATH`.
fn program() -> String {
    let named = std::env::var("CHROMIUM").ok();
    let known = ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned);
    let runs = |program: &String| Command::new(program).arg("--version").output().is_ok();
    named
        .into_iter()
        .chain(known)
        .find(runs)
        .expect("this test needs chromium: run scripts/install.sh browser, or set CHROMIUM")
}
