//! [`Script`]: the text of a transcript. `tests/data/transcripts/README.md` describes its format.

use std::path::Path;

use serde_json::Value;

use super::promise;

/// A transcript: how the server is started, and what is done and said, line by line.
pub struct Script {
    lines: Vec<(String, Line)>,
    pub schema: String,
    pub flags: Vec<String>,
    pub has_role: bool,
    /// The policies, if there are any: then the server asks for tokens.
    pub policies: Option<String>,
}

/// The kinds of line in a transcript.
pub enum Line {
    /// A remark, or nothing.
    Remark,
    /// A flag of the server.
    Flag(String),
    /// The server's role in the database: one that may replicate, and nothing else.
    Role,
    /// A line of the configuration file, where policies stand.
    Config(String),
    /// The server reads the configuration file again.
    Reload,
    /// A token by its name, and its claims.
    Token(String, Value),
    /// SQL that the application runs.
    Sql(String),
    /// A client connects, with a query (`?numbers=string`).
    Connect(String),
    /// The client goes without a word.
    Disconnect,
    /// The server is told to end.
    Stop,
    /// The server starts again, on what it kept.
    Start,
    /// The client sends a text.
    Send(String),
    /// The client sends a text message of bytes that are no UTF-8.
    SendBytes(Vec<u8>),
    /// The server sends a message.
    Said(String),
    /// The server closes the connection.
    Closed(String),
}

impl Script {
    pub fn read(file: &Path) -> Script {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| (line.to_owned(), Line::parse(line)))
            .collect();
        let begin = lines.iter().position(|(_, line)| line.is_step()).unwrap();
        let mut script = Script {
            lines,
            schema: String::new(),
            flags: Vec::new(),
            has_role: false,
            policies: None,
        };
        for (_, line) in &script.lines[..begin] {
            match line {
                Line::Sql(sql) => {
                    script.schema.push_str(sql);
                    script.schema.push_str(";\n");
                }
                Line::Flag(flag) => script.flags.push(flag.clone()),
                Line::Role => script.has_role = true,
                Line::Config(line) => add(&mut script.policies, line),
                Line::Remark => {}
                _ => panic!("{}: a step before the first connect", file.display()),
            }
        }
        script
    }

    /// The lines from the first `connect` or `token` on, with their indices.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &Line)> {
        let lines = self.lines.iter().map(|(_, line)| line).enumerate();
        lines.skip_while(|(_, line)| !line.is_step())
    }

    /// The whole text, with what the server says now.
    pub fn with(&self, said: &[(usize, String)]) -> String {
        let mut text = String::new();
        for (index, (line, kind)) in self.lines.iter().enumerate() {
            match (kind, said.iter().find(|(at, _)| *at == index)) {
                (Line::Said(_), Some((_, said))) => text.push_str(&format!("< {said}")),
                (Line::Closed(_), Some((_, said))) => text.push_str(format!("closed {said}").trim_end()),
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }

    /// The first line in which the server breaks its promise to clients of the release that this is of.
    pub fn breach(&self, said: &[(usize, String)]) -> Option<String> {
        said.iter().find_map(|(index, said)| {
            let (text, expected) = &self.lines[*index];
            let broken = promise::broken(expected, said)?;
            Some(format!(
                "line {}: {broken}\n expected {text}\n      was {said}",
                index + 1
            ))
        })
    }

    /// The first line in which the server says something else.
    pub fn difference(&self, said: &[(usize, String)]) -> Option<String> {
        said.iter().find_map(|(index, said)| {
            let (Line::Said(expected) | Line::Closed(expected)) = &self.lines[*index].1 else {
                return None;
            };
            (expected != said.trim_end())
                .then(|| format!("line {}\n expected {expected}\n      was {said}", index + 1))
        })
    }
}

impl Line {
    /// True if nothing before it is a step of the conversation.
    fn is_step(&self) -> bool {
        matches!(self, Line::Connect(_) | Line::Token(..))
    }

    fn parse(line: &str) -> Line {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => Line::Remark,
            "flag" => Line::Flag(rest.to_owned()),
            "role" => Line::Role,
            "config" => Line::Config(rest.to_owned()),
            "reload" => Line::Reload,
            "token" => {
                let (name, claims) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                Line::Token(name.to_owned(), serde_json::from_str(claims).unwrap())
            }
            "sql" => Line::Sql(rest.to_owned()),
            "connect" => Line::Connect(rest.to_owned()),
            "disconnect" => Line::Disconnect,
            "stop" => Line::Stop,
            "start" => Line::Start,
            ">" => Line::Send(rest.to_owned()),
            ">bytes" => Line::SendBytes(bytes(rest)),
            "<" => Line::Said(rest.to_owned()),
            "closed" => Line::Closed(rest.to_owned()),
            _ => panic!("no line of a transcript: {line}"),
        }
    }
}

/// Adds a line of the configuration file.
pub fn add(policies: &mut Option<String>, line: &str) {
    let policies = policies.get_or_insert_default();
    policies.push_str(line);
    policies.push('\n');
}

/// Bytes from their hexadecimal digits; `20*3` are three spaces.
fn bytes(text: &str) -> Vec<u8> {
    let (digits, times) = text.split_once('*').unwrap_or((text, "1"));
    let digits = digits.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    bytes.collect::<Vec<_>>().repeat(times.parse().unwrap())
}
