//! `walcast config schema`: the configuration file's keys as a JSON schema, for editors that complete and check it.

use clap::{Arg, Args as _, Command, CommandFactory};
use serde_json::{Map, Value, json};

use super::file::flag;
use crate::auth::ALGORITHMS;
use crate::cli::Cli;
use crate::cli::serve::SourceArgs;
use crate::config::{AUTH_DEFAULTS, Flag, Kind};

/// The schema (JSON Schema, draft 7, which TOML's language servers read).
pub(super) fn text() -> String {
    format!("{:#}\n", schema())
}

fn schema() -> Value {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").into_iter();
    let arguments = serve.flat_map(Command::get_arguments).chain(cli.get_arguments());
    let mut properties = properties(arguments);
    properties.insert("source".into(), json!({"type": "array", "items": source()}));
    properties.insert("auth".into(), auth());
    properties.insert("policy".into(), json!({"type": "array", "items": policy()}));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "walcast",
        "description": "The configuration file of walcast serve",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// Flags of `serve`, by their names in the file.
fn properties<'a>(arguments: impl Iterator<Item = &'a Arg>) -> Map<String, Value> {
    let of = |arg| flag(arg).map(|flag| (flag.key.clone(), property(arg, &flag)));
    arguments.filter_map(of).collect()
}

/// A flag of `serve`.
fn property(arg: &Arg, flag: &Flag) -> Value {
    let one = match flag.kind {
        Kind::Switch => json!({"type": "boolean"}),
        Kind::Number => json!({"type": "integer"}),
        Kind::Size => json!({"type": ["integer", "string"]}),
        Kind::Path | Kind::Text => {
            let choices = arg.get_possible_values();
            let names: Vec<&str> = choices.iter().map(|choice| choice.get_name()).collect();
            match &*names {
                [] => json!({"type": "string"}),
                names => json!({"enum": names}),
            }
        }
    };
    let value = if flag.is_list {
        json!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
    } else {
        one
    };
    let default = match arg.get_default_values() {
        [default] => default.to_str(),
        _ => None,
    };
    let default = default.map(|default| match flag.kind {
        Kind::Number => default
            .parse::<u64>()
            .map_or(json!(default), |number| json!(number)),
        _ => json!(default),
    });
    let help = arg.get_long_help().or_else(|| arg.get_help());
    with(value, help.map(ToString::to_string), default)
}

/// A schema with what it is, and its default.
fn with(mut schema: Value, description: Option<String>, default: Option<Value>) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.extend(description.map(|text| ("description".into(), text.into())));
        schema.extend(default.map(|default| ("default".into(), default)));
    }
    schema
}

/// One of several databases.
fn source() -> Value {
    let definition = SourceArgs::augment_args(Command::new("source"));
    let mut properties = properties(definition.get_arguments());
    let name = json!({
        "type": "string",
        "pattern": "^[a-z][a-z0-9_-]{0,62}$",
        "description": "The name: clients connect to /v1/stream/NAME, and metrics have it as the label source",
    });
    properties.insert("name".into(), name);
    json!({
        "type": "object",
        "description": "One of several databases. A flag that it leaves out has the value from before the sections",
        "additionalProperties": false,
        "required": ["name"],
        "properties": properties,
    })
}

fn auth() -> Value {
    let algorithms: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
    let text = |key: &str, description: &str| {
        let default = AUTH_DEFAULTS.iter().find(|(known, _)| *known == key);
        let default = default.map(|(_, default)| json!(default));
        let schema = json!({"type": "string", "minLength": 1});
        (key.to_owned(), with(schema, Some(description.into()), default))
    };
    let audience = json!({
        "anyOf": [{"type": "string"}, texts(json!({"type": "string"}), "Audiences")],
        "description": "The aud that tokens must have, or a list of which they must have one",
    });
    let properties: Map<String, Value> = [
        (
            "algorithms".into(),
            texts(
                json!({"enum": algorithms}),
                "The algorithms that tokens may be signed with",
            ),
        ),
        text("secret_file", "A file with the secret of HS algorithms"),
        text("secret_env", "The environment variable that has it"),
        text("public_key_file", "A file with a public key in PEM"),
        text("jwks_file", "A file with a JSON Web Key Set (RFC 7517)"),
        text("jwks_url", "The address that such a set is fetched from"),
        text("jwks_refresh", "The time after which it is fetched again"),
        text("issuer", "The iss that tokens must have"),
        ("audience".into(), audience),
        text("leeway", "The time by which clocks may differ"),
        text("role_claim", "The claim whose value is the caller's role"),
        text("anonymous_role", "The role of callers without a token"),
    ]
    .into_iter()
    .collect();
    json!({
        "type": "object",
        "description": "The tokens that are accepted, and the claims that say who their bearer is",
        "additionalProperties": false,
        "required": ["algorithms"],
        "properties": properties,
    })
}

fn policy() -> Value {
    let text = || json!({"type": "string", "minLength": 1});
    json!({
        "type": "object",
        "description": "A rule: roles, and the rows and columns of tables, or the messages, that they may see",
        "additionalProperties": false,
        "properties": {
            "sources": texts(text(), "The sources that it is for; needed where there are several"),
            "tables": texts(text(), "The tables, as in public.orders, or all of a schema, as in public.*"),
            "roles": texts(text(), "The roles that it is for; left out: every role"),
            "ops": texts(json!({"enum": ["insert", "update", "delete", "truncate"]}), "The operations; left out: all"),
            "columns": texts(text(), "The columns; left out: all"),
            "where": {"type": "string", "description": "The rows that satisfy this predicate; left out: all"},
            "rls": {"type": "boolean", "description": "The rows that Postgres' own policies admit"},
            "messages": texts(text(), "The beginnings of the prefixes of logical messages"),
        },
    })
}

/// A list of different values, at least one.
fn texts(item: Value, what: &str) -> Value {
    json!({"type": "array", "items": item, "minItems": 1, "uniqueItems": true, "description": what})
}
