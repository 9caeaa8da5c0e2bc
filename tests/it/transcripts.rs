//! Whole conversations with the server, byte for byte: `tests/data/transcripts` has one in each file, with the format
//! in its README, and `releases` there those of each release.
//!
//! `TRANSCRIPTS=record` writes what the server says now into the files, `TRANSCRIPTS=name` compares one file alone.

mod normal;
mod promise;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use normal::Normal;
use script::{Line, Script};
use serde_json::json;

use crate::support::guarded::{Guarded, client};
use crate::support::issuer::seconds_from_now;
use crate::support::{At, Client, DEADLINE, Database, End, Incoming, Setup, Walcast, eventually, versions};

/// Conversations that are held at the same time.
const AT_ONCE: usize = 2;

#[test]
fn every_conversation_is_what_was_written_down() {
    let chosen = std::env::var("TRANSCRIPTS").unwrap_or_default();
    let record = chosen == "record";
    let mut files = files();
    assert!(files.len() >= 40, "{} transcripts", files.len());
    if !record && !chosen.is_empty() {
        files.retain(|file| file.file_stem().is_some_and(|stem| stem == chosen.as_str()));
        assert!(!files.is_empty(), "no transcript {chosen}");
    }
    hold_all(files, |file, script, found| {
        if record {
            std::fs::write(file, script.with(found)).unwrap();
            return None;
        }
        script.difference(found)
    });
}

/// The conversations of each release, and of the version that `WALCAST_PREVIOUS_TRANSCRIPTS` has those of.
#[test]
fn conversations_of_earlier_versions_go_as_their_clients_were_promised() {
    let mut earlier = versions();
    earlier.remove(env!("CARGO_PKG_VERSION"));
    let mut folders: Vec<_> = earlier
        .iter()
        .map(|version| folder().join("releases").join(version))
        .collect();
    folders.extend(std::env::var_os("WALCAST_PREVIOUS_TRANSCRIPTS").map(PathBuf::from));
    for folder in folders {
        assert!(
            folder.is_dir(),
            "{} is missing: copy the transcripts there as they were at the release",
            folder.display()
        );
        hold_all(files_in(&folder), |_, script, found| script.breach(found));
    }
}

/// Holds conversations, and fails with what is wrong with them.
fn hold_all(
    files: Vec<PathBuf>,
    wrong_with: impl Fn(&Path, &Script, &[(usize, String)]) -> Option<String> + Sync,
) {
    let left = Mutex::new(files);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(file) = left.lock().unwrap().pop() else {
                        break;
                    };
                    let script = Script::read(&file);
                    let (found, problem) = Conversation::hold(&script);
                    if let Some(difference) = problem.or_else(|| wrong_with(&file, &script, &found)) {
                        let name = file.file_name().unwrap().display().to_string();
                        wrong.lock().unwrap().push(format!("{name}:{difference}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The page of the protocol names the types of messages, the operations and the codes; each is in a transcript.
#[test]
fn the_transcripts_have_every_message_operation_and_code_that_can_occur() {
    let mut texts = String::new();
    for file in files() {
        texts.push_str(&std::fs::read_to_string(file).unwrap());
    }
    let said = |field: &str, value: &str| texts.contains(&format!("\"{field}\":\"{value}\""));
    let mut missing = BTreeSet::new();
    for (field, values) in [
        (
            "type",
            "subscribe unsubscribe ping auth hello subscribed snapshot live tx progress unsubscribed pong token_expiring \
             error",
        ),
        ("op", "insert update delete truncate message"),
        (
            "code",
            "bad_request bad_predicate unknown_table unknown_column duplicate_id unknown_id replica_identity \
             resume_expired resume_invalid schema_changed limit_exceeded database_refused unauthenticated token_expired \
             forbidden",
        ),
    ] {
        for value in values.split_whitespace().filter(|value| !said(field, value)) {
            missing.insert(format!("{field} {value}"));
        }
    }
    for sign in [
        "\"cause\":\"update\"",
        "\"unchanged\":[",
        "\"oversize\":true",
        "\"undecided\":true",
        "\"as_before\":true",
        "\"more\":true",
        "\"old\":{",
        "\"new_key\":{",
        "\"encoding\":\"hex\"",
        "?numbers=string",
        "\"offset\":",
        "\"earliest\":",
        "closed 1001",
        "closed 1007",
        "closed 1009",
        "closed 4003",
        "closed 4500",
        "closed 4501",
    ] {
        if !texts.contains(sign) {
            missing.insert(sign.to_owned());
        }
    }
    assert!(missing.is_empty(), "in no transcript: {missing:?}");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts")
}

/// Those of this version.
fn files() -> Vec<PathBuf> {
    files_in(&folder())
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    files
}

/// The database of a conversation: of one with policies, also those who sign its tokens.
enum Ground {
    Open(Database),
    Guarded(Guarded),
}

impl Ground {
    fn database(&self) -> &Database {
        match self {
            Ground::Open(database) => database,
            Ground::Guarded(guarded) => &guarded.database,
        }
    }

    fn guarded(&self) -> &Guarded {
        match self {
            Ground::Open(_) => panic!("no config line before the first connect"),
            Ground::Guarded(guarded) => guarded,
        }
    }
}

/// A conversation while it is held.
struct Conversation {
    ground: Ground,
    /// The lines of the file that the server has not read yet.
    policies: Option<String>,
    tokens: BTreeMap<String, String>,
    setup: Setup,
    walcast: Option<Walcast>,
    client: Option<Client>,
    normal: Normal,
    /// The server's messages, by the index of the line that expects it.
    said: Vec<(usize, String)>,
}

impl Conversation {
    /// Does as the script says, and returns what the server said in its normal form, by the line that expects it, and
    /// why it could not go on, if it could not.
    fn hold(script: &Script) -> (Vec<(usize, String)>, Option<String>) {
        let (ground, mut setup) = match &script.policies {
            None => {
                let database = Database::new(&script.schema);
                let setup = Setup::new(&database);
                (Ground::Open(database), setup)
            }
            Some(policies) => {
                let guarded = Guarded::new(&script.schema);
                let setup = guarded.setup("", policies);
                (Ground::Guarded(guarded), setup)
            }
        };
        if script.has_role {
            setup = setup.by(ground.database().limited_role());
        }
        for flag in &script.flags {
            let (name, value) = flag.split_once('=').unwrap_or_else(|| panic!("{flag}"));
            setup = setup.flag(name, value);
        }
        let mut conversation = Conversation {
            normal: Normal::new(&ground.database().name),
            walcast: Some(setup.start()),
            ground,
            policies: None,
            tokens: BTreeMap::new(),
            setup,
            client: None,
            said: Vec::new(),
        };
        conversation.delivers_everything();
        let problem = script.steps().find_map(|(index, line)| {
            let problem = conversation.step(index, line).err()?;
            Some(format!("{}: {problem}", index + 1))
        });
        let Conversation { normal, said, .. } = conversation;
        let said = said.into_iter();
        (
            said.map(|(index, text)| (index, normal.text(&text))).collect(),
            problem,
        )
    }

    /// One step, or why it is not possible.
    fn step(&mut self, index: usize, line: &Line) -> Result<(), String> {
        match line {
            Line::Sql(sql) => {
                let database = self.ground.database();
                let written = || {
                    database
                        .value("SELECT pg_current_wal_insert_lsn()")
                        .parse()
                        .unwrap()
                };
                self.normal.step(written());
                database.sql(sql);
                self.normal.done(written());
                self.delivers_everything();
            }
            Line::Connect(query) => {
                let offer = [("sec-websocket-protocol", "walcast.v1")];
                let address = self.walcast.as_ref().unwrap().listen();
                let client = Client::open(address, &format!("/v1/stream{query}"), &offer).unwrap();
                assert_eq!(client.subprotocol.as_deref(), Some("walcast.v1"));
                self.client = Some(client);
            }
            Line::Disconnect => self.client = None,
            Line::Stop => self.walcast.as_ref().unwrap().terminate(),
            Line::Start => {
                let stopped = self.walcast.take().unwrap();
                assert!(stopped.ended().success());
                self.walcast = Some(self.setup.start());
                self.delivers_everything();
            }
            Line::Send(text) => {
                let mut text = self.normal.real(text);
                for (name, token) in &self.tokens {
                    text = text.replace(
                        &format!("\"token\":\"{name}\""),
                        &format!("\"token\":\"{token}\""),
                    );
                }
                self.client.as_mut().unwrap().send_text(&text);
            }
            Line::SendBytes(bytes) => self.client.as_mut().unwrap().send_text_of(bytes),
            Line::Said(expected) => {
                let text = self.next(expected)?;
                self.normal.learn(&text);
                self.said.push((index, text));
            }
            Line::Closed(_) => match self.client.as_mut().unwrap().end() {
                End::Closed(code, reason) => self.said.push((index, format!("{code} {reason}"))),
                End::Lost => return Err("no close frame".to_owned()),
            },
            Line::Config(line) => script::add(&mut self.policies, line),
            Line::Reload => self.reload(),
            Line::Token(name, claims) => {
                let mut claims = claims.clone();
                claims["exp"] = json!(seconds_from_now(claims["exp"].as_i64().unwrap()));
                let token = self.ground.guarded().key.token(&claims);
                self.tokens.insert(name.clone(), token);
            }
            Line::Flag(_) | Line::Role => return Err("a flag after the server has started".to_owned()),
            Line::Remark => {}
        }
        Ok(())
    }

    /// The next message; a `progress` only if that is the expected one, since they come by time: one that has not come so
    /// far may be on its way.
    fn next(&mut self, expected: &str) -> Result<String, String> {
        let is_progress = |text: &str| text.starts_with("{\"type\":\"progress\"");
        let until = Instant::now() + DEADLINE;
        loop {
            let client = self.client.as_mut().unwrap();
            match client.next_text(until) {
                Incoming::Message(text) if is_progress(&text) && self.normal.text(&text) != expected => {}
                Incoming::Message(text) => return Ok(text),
                other => return Err(format!("{other:?} instead of {expected}")),
            }
        }
    }

    /// Has the server read its file again, and waits until it has taken the policies.
    fn reload(&mut self) {
        let policies = self.policies.take().unwrap_or_default();
        self.ground.guarded().write("", &policies);
        let walcast = self.walcast.as_ref().unwrap();
        let taken = || walcast.log().matches("the policies have changed").count();
        let before = taken();
        walcast.hang_up();
        eventually("the policies are taken", || (taken() > before).then_some(()));
    }

    /// Waits until what the server of the database has written is with the clients that are live.
    fn delivers_everything(&self) {
        let walcast = self.walcast.as_ref().unwrap();
        let guarded = match &self.ground {
            Ground::Open(database) => return walcast.comes_up_to(database),
            Ground::Guarded(guarded) => guarded,
        };
        let written = At::after(guarded.database.written());
        eventually("walcast has it all", || {
            let watcher = client(walcast, &guarded.token("watcher", "watcher"));
            (At::read(&watcher.hello["position"]) >= written).then_some(())
        });
    }
}
