//! Commands that README and docs print for operators, run as printed, against databases of the tests.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use walcast::cluster::{Cluster, Options};

use crate::support::{Database, PROGRAM, Printing, Setup, block, blocks, eventually};

/// A block that is run elsewhere, or that no test can run.
struct Elsewhere {
    page: &'static str,
    /// Its first words.
    beginning: &'static str,
    /// The test that runs it, or the reason why none does.
    reason: &'static str,
}

const ELSEWHERE: [Elsewhere; 28] = [
    Elsewhere {
        page: "README.md",
        beginning: "make demo     # a",
        reason: "CI calls make test, and tests/demo runs the demo",
    },
    Elsewhere {
        page: "README.md",
        beginning: "make demo ARGS=",
        reason: "tests/demo/clients.rs runs the page at that address",
    },
    Elsewhere {
        page: "README.md",
        beginning: "make -C /path/to/walcast client ",
        reason: "client/test/package.test.ts builds such a page",
    },
    Elsewhere {
        page: "README.md",
        beginning: "make -C /path/to/walcast client\n",
        reason: "examples/test/starter.test.ts makes an application so",
    },
    Elsewhere {
        page: "README.md",
        beginning: "make -C /path/to/walcast demo ",
        reason: "the demo again, with a flag that tests/it/upgrade.rs has",
    },
    Elsewhere {
        page: "docs/console.md",
        beginning: "{\"version\": \"0.1.0\", \"token\"",
        reason: "tests/it/console.rs has such answers",
    },
    Elsewhere {
        page: "docs/console.md",
        beginning: "{\"step\": 1",
        reason: "tests/it/console.rs has such answers",
    },
    Elsewhere {
        page: "docs/console.md",
        beginning: "{\"table\": \"public.orders\", \"where\"",
        reason: "tests/it/console.rs has such answers",
    },
    Elsewhere {
        page: "docs/console.md",
        beginning: "{\"id\": 41",
        reason: "tests/it/console.rs has such answers",
    },
    Elsewhere {
        page: "docs/console.md",
        beginning: "{\"table\": \"orders\", \"where\": \"status",
        reason: "tests/it/console.rs asks so",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "psql -d shop",
        reason: "tests/deploy/sql.rs",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "apt install ./walcast",
        reason: "it would install a service; tests/deploy/package.rs does so in a root of its own",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "install -D -m 755",
        reason: "it would install a service; tests/deploy/unit.rs reads the unit",
    },
    Elsewhere {
        page: "docs/releasing.md",
        beginning: "sha256sum --check",
        reason: "it looks at artefacts that were downloaded",
    },
    Elsewhere {
        page: "docs/releasing.md",
        beginning: "tar -xzf walcast-0.1.0.crate",
        reason: "it builds for long",
    },
    Elsewhere {
        page: "docs/releasing.md",
        beginning: "scripts/release.sh",
        reason: "it builds for long; tests/deploy/release.rs has what it refuses",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "docker build",
        reason: "there is no engine; tests/deploy/image.rs does what can be done without",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "kubectl create",
        reason: "there is no cluster; tests/deploy/chart.rs renders the chart",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "# values.yaml",
        reason: "tests/deploy/chart.py",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "nginx -t",
        reason: "tests/deploy/proxies.rs",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "# prometheus.yml",
        reason: "tests/deploy/monitoring.rs",
    },
    Elsewhere {
        page: "docs/deploy.md",
        beginning: "promtool check",
        reason: "tests/deploy/monitoring.rs",
    },
    Elsewhere {
        page: "docs/operations.md",
        beginning: "walcast types --out",
        reason: "tests/it/types.rs",
    },
    Elsewhere {
        page: "docs/operations.md",
        beginning: "walcast 0.1.0, up",
        reason: "tests/it/admin.rs has such a status printed",
    },
    Elsewhere {
        page: "docs/operations.md",
        beginning: "OTEL_EXPORTER_OTLP_ENDPOINT=",
        reason: "it needs a program with the feature; tests/otlp runs one",
    },
    Elsewhere {
        page: "docs/operations.md",
        beginning: "scrape_configs:",
        reason: "tests/deploy/monitoring.rs",
    },
    Elsewhere {
        page: "docs/sizing.md",
        beginning: "sysctl fs.nr_open",
        reason: "they look at the reader's machine, and change nothing",
    },
    Elsewhere {
        page: "docs/wal2json.md",
        beginning: "walcast check --plugin wal2json",
        reason: "tests/it/wal2json.rs: the other flags are left to the reader",
    },
];

/// Blocks that the tests of this file run.
const RUN: [(&str, &str); 9] = [
    ("README.md", "psql -d shop"),
    ("README.md", "cargo install"),
    ("README.md", "sudo install"),
    ("README.md", "walcast tail orders"),
    ("docs/configuration.md", "walcast serve --config"),
    ("docs/configuration.md", "walcast config check"),
    ("docs/consistency.md", "INSERT INTO orders"),
    ("docs/consistency.md", "{\"type\": \"ping\""),
    ("docs/runbooks.md", "SELECT slot_name"),
];

#[test]
fn every_block_is_run_by_a_test() {
    let elsewhere = ELSEWHERE.iter().map(|block| (block.page, block.beginning));
    let known: Vec<_> = RUN.into_iter().chain(elsewhere).collect();
    for (page, beginning) in &known {
        assert!(!block(page, beginning).is_empty());
    }
    assert!(ELSEWHERE.iter().all(|block| !block.reason.is_empty()));
    for block in blocks() {
        let is_it =
            |(page, beginning): &(&str, &str)| block.page == *page && block.text.starts_with(beginning);
        assert!(
            known.iter().any(is_it),
            "no test runs this block of {}: run it here, or name the test that does:\n{}",
            block.page,
            block.text
        );
    }
}

/// A shell in which a page's commands mean what they would on an operator's machine: this program is installed, and the
/// database is the one that psql finds without being told.
struct Shell {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Shell {
    fn new() -> Shell {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(PROGRAM, directory.path().join("walcast")).unwrap();
        let path = format!(
            "{}:{}",
            directory.path().display(),
            std::env::var("PATH").unwrap()
        );
        Shell {
            directory,
            variables: vec![("PATH".into(), path)],
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    /// The commands in one shell, which ends with the first that fails. The directory of the journal is one of ours.
    fn command(&self, commands: &str) -> Command {
        let journal = self.directory.path().join("journal");
        let commands = commands.replace("/var/lib/walcast", &journal.display().to_string());
        let script = format!("set -e\ncargo() {{ :; }}\nsudo() {{ \"$@\"; }}\n{commands}");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs the commands, which have to succeed, and returns their output.
    fn run(&self, commands: &str) -> String {
        let output = self.command(commands).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{commands}{out}{err}");
        out
    }

    /// The commands at work, and the lines that they print.
    fn start(&self, commands: &str) -> Printing {
        Printing::start(self.command(&commands.replace("\nwalcast ", "\nexec walcast ")))
    }
}

#[test]
fn the_steps_to_one_s_own_database_work_as_they_are_printed() {
    let options = Options {
        tcp: true,
        settings: vec!["wal_level = logical".into()],
        ..Options::default()
    };
    let server = Cluster::start(&options).unwrap();
    server.psql("CREATE DATABASE shop");
    server
        .try_psql(
            "shop",
            "CREATE TABLE orders (id bigint PRIMARY KEY, status text, amount numeric); \
             CREATE TABLE order_items (id bigint PRIMARY KEY); CREATE TABLE customers (id bigint PRIMARY KEY); \
             INSERT INTO orders VALUES (1, 'paid', 250), (2, 'paid', 50), (3, 'open', 300)",
        )
        .unwrap();
    let mut shell = Shell::new();
    shell.set("PGHOST", &server.socket_directory().display().to_string());
    shell.set("PGPORT", &server.port().to_string());
    shell.set("PGUSER", "postgres");
    shell.set("WALCAST_LISTEN", "127.0.0.1:0");
    shell.set("WALCAST_ADMIN_LISTEN", "127.0.0.1:0");
    shell.run(&block("README.md", "psql -d shop"));
    // The server of the test is not at the usual port.
    let check = block("README.md", "cargo install");
    let here = format!("postgresql://walcast@localhost:{}/shop", server.port());
    let check = check.replace("postgresql://walcast@localhost/shop", &here);
    assert!(check.contains(&here), "{check}");
    let printed = shell.run(&check);
    assert!(printed.contains("ok: walcast serve would work"), "{printed}");
    assert!(printed.contains("public.orders\n  key: id"), "{printed}");
    let settings: String = check
        .lines()
        .filter(|line| line.starts_with("export "))
        .map(|line| format!("{line}\n"))
        .collect();
    let serve = shell.start(&(settings + &block("README.md", "sudo install")));
    let listening = serve.line("listening");
    let (_, address) = listening.split_once(" listen=").unwrap();
    let address = address.split(' ').next().unwrap();
    shell.set("WALCAST_URL", &format!("ws://{address}/v1/stream"));
    let tail = shell.start(&block("README.md", "walcast tail orders"));
    assert!(tail.line("250").contains("paid"));
    server
        .try_psql(
            "shop",
            "INSERT INTO orders VALUES (4, 'paid', 101), (5, 'paid', 99), (6, 'paid', 777)",
        )
        .unwrap();
    assert!(tail.line("insert").contains("101"));
    assert!(tail.line("insert").contains("777"));
}

#[test]
fn the_commands_that_look_at_the_configuration_work_as_they_are_printed() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let shell = Shell::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("walcast.toml");
    let schema = block("docs/configuration.md", "walcast config check");
    let text = format!(
        "#:schema ./walcast.schema.json\ndatabase_url = \"{}\"\nslot = \"{}\"\npublication = [\"pub\"]\n\
         create_slot = true\ndata_dir = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n",
        database.url(),
        database.name
    );
    std::fs::write(&file, text).unwrap();
    let within = format!("cd '{}'\n", directory.path().display());
    let printed = shell.run(&(within.clone() + &schema));
    assert!(printed.starts_with("ok: "), "{printed}");
    assert!(
        printed.contains("max_connections = 5000  # command line"),
        "{printed}"
    );
    let schema = std::fs::read_to_string(directory.path().join("walcast.schema.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&schema).is_ok());
    let commands = block("docs/configuration.md", "walcast serve --config");
    let (serve, check) = commands.split_once('\n').unwrap();
    let printed = shell.run(&(within.clone() + check));
    assert!(printed.contains("ok: walcast serve would work"), "{printed}");
    shell.start(&(within + serve)).line("streaming");
}

#[test]
fn one_s_own_write_is_waited_for_as_it_is_printed() {
    let database = Database::new(
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text, amount numeric);
         CREATE PUBLICATION pub FOR TABLE orders",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "orders"}));
    let write = block("docs/consistency.md", "INSERT INTO orders");
    let mut connection = database.connect();
    let position = eventually("it is written", || {
        let rows = connection.query(&write).unwrap();
        rows.last().and_then(|row| row.get(0).map(str::to_owned))
    });
    let mut ping: Value = serde_json::from_str(&block("docs/consistency.md", "{\"type\": \"ping\"")).unwrap();
    ping["reach"] = json!(position);
    client.send(&ping);
    assert_eq!(client.change()["row"]["amount"], 120);
    let pong = client.expect("pong");
    assert_eq!(pong["ref"], ping["ref"], "{pong}");
}

#[test]
fn the_look_at_the_slot_works_as_it_is_printed() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let setup = Setup::new(&database);
    let _walcast = setup.start();
    let rows = database.sql(&block("docs/runbooks.md", "SELECT slot_name"));
    let row = rows.iter().find(|row| row.get(0) == Some(&setup.slot)).unwrap();
    assert_eq!((row.get(1), row.get(2)), (Some("t"), Some("reserved")));
}

#[test]
fn the_wal_of_each_replica_identity_is_measured() {
    let database = Database::new("");
    let server = database.server();
    let socket = server.socket_directory().display().to_string();
    let mut script = Command::new("scripts/wal_cost.sh");
    script.args([
        "-h",
        &socket,
        "-p",
        &server.port().to_string(),
        "-U",
        "postgres",
        "-d",
        &database.name,
    ]);
    drop(server);
    let output = script.env("ROWS", "20").output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{printed}");
    let bytes = |row: &str, operation: &str| -> Vec<u64> {
        let line = printed
            .lines()
            .find(|line| line.trim_start().starts_with(row) && line.contains(operation));
        let cells = line.unwrap_or_else(|| panic!("{printed}")).split('|').skip(2);
        cells.map(|cell| cell.trim().parse().unwrap()).collect()
    };
    // As docs/sizing.md has it: FULL costs the old row.
    let [default, index, full] = bytes("long", "UPDATE of another column")[..] else {
        panic!("{printed}")
    };
    assert!(default < 1_000 && index < 1_000 && full > 20_000, "{printed}");
    assert_eq!(
        database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'walcast_wal_cost'"),
        "0"
    );
}

/// The anchors that a page's headings have on GitHub.
fn anchors(page: &str) -> Vec<String> {
    let is_kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    headings
        .map(|heading| {
            heading
                .chars()
                .filter(is_kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut pages = vec![
        PathBuf::from("README.md"),
        "CONTRIBUTING.md".into(),
        "CHANGELOG.md".into(),
    ];
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains("://") && !link.contains(' ')) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.with_file_name(file)
            };
            let is_there = anchor.is_empty()
                || fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).iter().any(|known| known == anchor));
            if !target.exists() || !is_there {
                wrong.push(format!("{}: {link}", page.display()));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(count > 100, "{count} links");
}
