//! [`Args`]: the flags of `walcast tail`.

use std::path::PathBuf;

use super::line::Format;
use crate::lsn::{ParseError, Start};

/// Subscribe to tables and print their changes, one line of JSON each.
///
/// Each line holds the position to resume from after it: give it to --from. Everything else goes to standard error. A
/// lost connection is made again, and goes on where it was. With several tables, --where and the other flags hold for
/// each of them; while they catch up one by one, a line's position is the earliest of theirs: to resume from it misses
/// nothing, but may repeat lines.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  walcast tail orders --where \"status = 'paid' AND amount > \\$1\" --param 100"
)]
pub(crate) struct Args {
    /// The tables, as SQL writes them: orders, shop.orders, "Odd Name".
    #[arg(required = true, value_name = "TABLE")]
    pub(super) tables: Vec<String>,
    /// The server: ws://, or wss:// for TLS.
    #[arg(
        long,
        env = "WALCAST_URL",
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080/v1/stream"
    )]
    pub(super) url: String,
    /// Authorities of which one has to have issued the certificate of a server by wss:// (PEM), or that certificate itself.
    /// [default: those that this machine believes]
    #[arg(long, env = "WALCAST_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// The file with the token that the server asks for. It is read again for each connection.
    #[arg(long, env = "WALCAST_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Only rows for which this holds.
    #[arg(long = "where", env = "WALCAST_WHERE", value_name = "SQL")]
    pub(super) predicate: Option<String>,
    /// A parameter for --where, as text: the first is $1.
    #[arg(long, env = "WALCAST_PARAM", value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) param: Vec<String>,
    /// The same, as JSON: 100, true, null, "text".
    #[arg(
        long,
        env = "WALCAST_PARAM_JSON",
        value_name = "JSON",
        // Without it clap takes the text as it is, which is a JSON value as well.
        value_parser = json,
        allow_hyphen_values = true,
        conflicts_with = "param"
    )]
    pub(super) param_json: Vec<serde_json::Value>,
    /// Only these columns, and those of the key.
    #[arg(
        long,
        env = "WALCAST_COLUMNS",
        value_name = "NAME[,NAME]",
        value_delimiter = ','
    )]
    pub(super) columns: Vec<String>,
    /// Only these operations: insert, update, delete, truncate.
    #[arg(long, env = "WALCAST_OPS", value_name = "OP[,OP]", value_delimiter = ',')]
    pub(super) ops: Vec<String>,
    /// Print old rows too, where they are known.
    #[arg(long, env = "WALCAST_OLD")]
    pub(super) old: bool,
    /// Print the rows that are there first, as "op": "snapshot". If the connection is lost meanwhile, a line with "op":
    /// "reset" takes back all that was printed of the table, and the rows come once more.
    #[arg(long, env = "WALCAST_SNAPSHOT", conflicts_with = "from")]
    pub(super) snapshot: bool,
    /// Start after this position (16/B374D848, or 16/B374D848:17 inside a transaction), or with the earliest that is
    /// kept. Otherwise it starts now.
    #[arg(long, env = "WALCAST_FROM", value_name = "POSITION|earliest", value_parser = start)]
    pub(super) from: Option<Start>,
    /// The epoch that --from is of: refused if it is not the server's.
    #[arg(long, env = "WALCAST_EPOCH", value_name = "EPOCH", requires = "from")]
    pub(super) epoch: Option<String>,
    /// Value of now() in --where, as an earlier tail said: needed with --from where --where asks for it. [default: when
    /// the subscription is made]
    #[arg(long, env = "WALCAST_NOW", value_name = "TIME")]
    pub(super) now: Option<String>,
    /// Treatment of changes for which the log cannot decide if their row belongs to the result. [default: the
    /// server's: refuse]
    #[arg(long, env = "WALCAST_UNDECIDED", value_enum)]
    pub(super) undecided: Option<Undecided>,
    /// Form in which bigint and numeric values are printed.
    #[arg(long, env = "WALCAST_NUMBERS", value_enum, default_value = "native")]
    pub(super) numbers: Numbers,
    /// The format in which changes are printed.
    #[arg(
        long,
        env = "WALCAST_FORMAT",
        value_enum,
        default_value = "json",
        conflicts_with = "raw"
    )]
    pub(super) format: Format,
    /// Print the server's messages as they come.
    #[arg(long, env = "WALCAST_RAW")]
    pub(super) raw: bool,
    /// Exit after this many changes and rows.
    #[arg(long, env = "WALCAST_COUNT", value_name = "N")]
    pub(super) count: Option<u64>,
    /// Wait for a server that cannot be reached yet. Without it only a connection that was lost is made again.
    #[arg(long, env = "WALCAST_WAIT", conflicts_with = "no_reconnect")]
    pub(super) wait: bool,
    /// Exit when the connection is lost.
    #[arg(long, env = "WALCAST_NO_RECONNECT")]
    pub(super) no_reconnect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Undecided {
    /// Be refused, with the statement that changes it.
    Refuse,
    /// Print them: rows that may have left the result as deletes, values that may not match as they are.
    Send,
    /// Leave out updates of rows that may have left the result.
    Withhold,
}

impl Undecided {
    /// The name in the protocol.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Undecided::Refuse => "refuse",
            Undecided::Send => "send",
            Undecided::Withhold => "withhold",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Numbers {
    /// As JSON numbers.
    Native,
    /// As JSON strings.
    String,
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}: write JSON, and text in double quotes"))
}

fn start(text: &str) -> Result<Start, ParseError> {
    match text {
        "earliest" => Ok(Start::Earliest),
        position => Ok(Start::After(position.parse()?)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_json_parameter_is_what_its_text_says() {
        let params = |texts: &[&str]| {
            let flags = texts.iter().flat_map(|text| ["--param-json", text]);
            let parsed = Command::try_parse_from(["tail", "t"].into_iter().chain(flags));
            parsed.map(|command| command.args.param_json)
        };
        assert_eq!(
            params(&["null", "100", "-1.5", "true", "\"1\""]).unwrap(),
            [json!(null), json!(100), json!(-1.5), json!(true), json!("1")]
        );
        for malformed in ["", "paid", "{", "1 2"] {
            let error = params(&[malformed]).unwrap_err().to_string();
            assert!(
                error.contains("--param-json") && error.contains("write JSON"),
                "{error}"
            );
        }
    }
}
