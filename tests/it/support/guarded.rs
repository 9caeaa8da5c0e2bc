//! [`Guarded`]: a database whose clients need tokens.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::issuer::{Answer, Issuer, SigningKey, claims, set};
use super::{Client, Database, Setup, Walcast};

/// A database, keys, and a configuration that asks for tokens of them.
pub struct Guarded {
    pub database: Database,
    pub key: SigningKey,
    pub issuer: Issuer,
    directory: tempfile::TempDir,
}

impl Guarded {
    pub fn new(schema: &str) -> Guarded {
        Guarded::of(Database::new(schema))
    }

    /// The same on a server that no other test makes roles on.
    pub fn on_its_own_server(schema: &str) -> Guarded {
        Guarded::of(Database::on_its_own_server(schema, &[]))
    }

    fn of(database: Database) -> Guarded {
        let key = SigningKey::new("one");
        Guarded {
            issuer: Issuer::new(Answer::Keys(set(&[&key]))),
            database,
            key,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("walcast.toml")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file with this in its `[auth]`, and with these sections behind it.
    pub fn write(&self, auth: &str, policies: &str) {
        let text = format!(
            "database_url = {:?}\nslot = {:?}\npublication = [\"pub\"]\ncreate_slot = true\ndata_dir = \"data\"\n\
             listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nlog_format = \"json\"\nlog = \"trace\"\n\
             progress_interval = \"50ms\"\n\n\
             [auth]\nalgorithms = [\"EdDSA\"]\njwks_url = {:?}\nleeway = \"0s\"\n{auth}\n{policies}",
            self.database.url(),
            self.database.name,
            self.issuer.url(),
        );
        std::fs::write(self.file(), text).unwrap();
    }

    /// The program by such a file.
    pub fn setup(&self, auth: &str, policies: &str) -> Setup {
        self.write(auth, policies);
        Setup::new(&self.database).configured(&self.file())
    }

    pub fn token(&self, subject: &str, role: &str) -> String {
        self.key.token(&claims(subject, role))
    }

    /// A token of this subject in the role `customer`, with more claims.
    pub fn token_with(&self, subject: &str, more: &Value) -> String {
        let mut claims = claims(subject, "customer");
        for (name, claim) in more.as_object().unwrap() {
            claims[name] = claim.clone();
        }
        self.key.token(&claims)
    }

    /// A client that was greeted, with such a token.
    pub fn client(&self, walcast: &Walcast, subject: &str, more: &Value) -> Client {
        client(walcast, &self.token_with(subject, more))
    }
}

/// Roles of one test alone: they are the whole server's.
pub struct Roles<'g> {
    guarded: &'g Guarded,
    made: Vec<String>,
}

impl<'g> Roles<'g> {
    pub fn new(guarded: &'g Guarded) -> Roles<'g> {
        Roles {
            guarded,
            made: Vec::new(),
        }
    }

    /// A role with these attributes, whose name begins so.
    pub fn make(&mut self, name: &str, attributes: &str) -> String {
        let role = format!("{name}_{}", self.guarded.database.name);
        self.guarded
            .database
            .sql(&format!("CREATE ROLE {role} {attributes}"));
        self.made.push(role.clone());
        role
    }
}

impl Drop for Roles<'_> {
    fn drop(&mut self) {
        for role in self.made.iter().rev() {
            // A test that failed has said why.
            let dropped = format!("DROP OWNED BY {role}; DROP ROLE {role}");
            let _failed = self.guarded.database.connect().query(&dropped);
        }
    }
}

/// The message with a token.
pub fn auth(token: &str) -> Value {
    json!({"type": "auth", "token": token})
}

/// A client that was greeted.
pub fn client(walcast: &Walcast, token: &str) -> Client {
    let header = format!("Bearer {token}");
    let client = walcast.try_connect("/v1/stream", &[("authorization", &header)]);
    client.unwrap_or_else(|refused| panic!("{refused:?}"))
}
