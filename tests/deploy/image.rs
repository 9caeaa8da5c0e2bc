//! The image, and what compose starts around it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Database, PROGRAM, Setup, left_out};
use crate::tools::{command, read, run, variables_in, variables_of_serve};

const COMPOSE: &str = "deploy/docker/compose.yaml";

/// The variables that compose gives walcast.
fn environment() -> Vec<(String, String)> {
    let compose = read(COMPOSE);
    let (_, service) = compose.split_once("\n  walcast:\n").unwrap();
    let (_, environment) = service.split_once("    environment:\n").unwrap();
    let lines = environment.lines().map_while(|line| line.strip_prefix("      "));
    lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

#[test]
fn the_image_is_made_by_the_rules_and_sets_flags_that_there_are() {
    let known = variables_of_serve();
    let set = environment().into_iter().map(|(name, _)| name);
    let files = [
        "deploy/docker/Dockerfile",
        "deploy/helm/walcast/templates/statefulset.yaml",
    ];
    let named = files.iter().flat_map(|file| variables_in(&read(file)));
    // It is the build that reads this one.
    let named = named.filter(|name| name != "WALCAST_COMMIT");
    for name in set.filter(|name| name.starts_with("WALCAST_")).chain(named) {
        assert!(known.contains(&name), "serve has no {name}");
    }
    let Some(mut hadolint) = command("hadolint") else {
        return;
    };
    run(hadolint.arg("deploy/docker/Dockerfile"));
    let Some(mut lint) = command("compose-lint") else {
        return;
    };
    run(lint.arg(COMPOSE));
}

/// The paths of the libraries that the program is linked with, by ldd.
fn libraries() -> Vec<PathBuf> {
    let said = run(Command::new("ldd").arg(PROGRAM));
    let words = said.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(|word| word.trim_end_matches(':').into()).collect()
}

/// The libraries of distroless/cc: glibc's and libgcc_s. A further one would be missing there.
#[test]
fn the_program_runs_as_nobody_where_there_is_nothing_but_the_image_s_libraries() {
    let libraries = libraries();
    for library in &libraries {
        let name = library.file_name().unwrap().to_str().unwrap();
        let is_there = [
            "libc.so",
            "libgcc_s.so",
            "libm.so",
            "ld-linux",
            "libpthread.so",
            "libdl.so",
            "librt.so",
        ];
        assert!(
            is_there.iter().any(|known| name.starts_with(known)),
            "{name} is not in the image"
        );
    }
    if !rustix::process::geteuid().is_root() {
        left_out("a root of the program's own", "only root may use chroot");
        return;
    }
    let root = TempDir::new().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for library in &libraries {
        let place = root.path().join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(library, place).unwrap();
    }
    // By another process: one that a test beside this starts meanwhile would have the file open for writing until it runs
    // its own program, and such a file cannot be run ("Text file busy").
    run(Command::new("cp").arg(PROGRAM).arg(root.path().join("walcast")));
    let said = run(Command::new("chroot")
        .args(["--userspec=65532:65532"])
        .arg(root.path())
        .args(["/walcast", "--version"]));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}

#[test]
fn what_compose_starts_serves_the_table_that_it_makes() {
    let database = Database::on_its_own_server("", &[]);
    let directory = TempDir::new().unwrap();
    let psql = database
        .server()
        .psql_command("postgres")
        .get_program()
        .to_owned();
    symlink(Path::new(&psql), directory.path().join("psql")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let (host, port) = {
        let server = database.server();
        (server.socket_directory().to_owned(), server.port().to_string())
    };
    run(Command::new("bash")
        .arg("deploy/docker/init.sh")
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("PGHOST", host)
        .env("PGPORT", port)
        .env("POSTGRES_DB", &database.name)
        .env("WALCAST_PASSWORD", "a 'password'")
        .env("WALCAST_SETUP", "sql/setup.sql"));
    let password = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'walcast'";
    assert_eq!(database.value(password), "t");

    let config = directory.path().join("walcast.toml");
    fs::write(&config, "").unwrap();
    let url = database.url().replace("postgres@", "walcast@");
    let data = directory.path().join("data");
    let mut setup = Setup::new(&database)
        .configured(&config)
        .flag("--log-format", "json")
        .flag("--data-dir", data.to_str().unwrap());
    for (name, value) in environment() {
        // The addresses, the database's and its own, are this test's.
        let value = match &*name {
            "WALCAST_DATABASE_URL" => url.clone(),
            "WALCAST_LISTEN" | "WALCAST_ADMIN_LISTEN" => value.split(':').next().unwrap().to_owned() + ":0",
            "PGPASSWORD" => "a 'password'".to_owned(),
            _ => value,
        };
        setup = setup.variable(&name, &value);
    }
    let walcast = setup.start();
    // As Prometheus of compose asks.
    let request = "GET /metrics HTTP/1.1\r\nhost: walcast:9090\r\nconnection: close\r\n\r\n";
    let answer = crate::support::http(walcast.admin(), request).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "o", "table": "orders", "where": "status = 'paid'"}));
    database.sql("INSERT INTO orders (status, amount) VALUES ('paid', 100)");
    assert_eq!(client.change()["row"]["amount"], 100);
}
