//! nginx and HAProxy in front of walcast, with the configurations of `deploy/` but for addresses, files and shorter times;
//! Caddy's is only read by its own parser.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Authority, Client, Database, End, Incoming, Line, Setup, Walcast, eventually, eventually_equal,
};
use crate::tools::{Running, command, read, replaced, run};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t";
/// The time after which the proxies of these tests end what is idle, instead of 75 s.
const IDLE: Duration = Duration::from_secs(2);
/// The time after which walcast pings quiet clients, in the same proportion to it as the default of 20 s.
const PING: &str = "533ms";

/// An address that nobody else has: the port is counted, and the host is this process's own.
fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 100, high, low);
    SocketAddr::new(IpAddr::V4(host), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A proxy before one walcast or two.
struct Proxy {
    program: Running,
    directory: TempDir,
    address: SocketAddr,
    authority: Arc<Authority>,
}

/// A directory that the users whom the proxies become can enter.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The part of walcast that a proxy is told of.
struct Backend {
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Backend {
    fn of(walcast: &Walcast) -> Backend {
        Backend {
            listen: walcast.listen(),
            admin: walcast.admin(),
        }
    }
}

impl Proxy {
    fn nginx(authority: &Arc<Authority>, [a, b]: [&Backend; 2]) -> Option<Proxy> {
        let mut nginx = command("nginx")?;
        let (directory, address) = (directory(), address());
        let place = |name: &str| directory.path().join(name);
        let site = replaced(
            &read("deploy/nginx/walcast.conf"),
            &[
                ("10.0.0.11:8080", &a.listen.to_string()),
                ("10.0.0.12:8080", &b.listen.to_string()),
                ("listen 443", &format!("listen {address}")),
                ("/etc/nginx/tls/fullchain.pem", text(&authority.path("chain.pem"))),
                ("/etc/nginx/tls/privkey.pem", text(&authority.path("key.pem"))),
                ("75s", &format!("{}s", IDLE.as_secs())),
            ],
        );
        fs::write(place("site.conf"), site).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {};", place(kind).display()));
        let main = format!(
            "daemon off; pid {}; error_log stderr; worker_processes 1;\nevents {{}}\nhttp {{ access_log off; {} include {}; }}",
            place("pid").display(),
            temporary.join(" "),
            place("site.conf").display()
        );
        fs::write(place("nginx.conf"), main).unwrap();
        let arguments = ["-e", "stderr", "-c", text(&place("nginx.conf"))].map(str::to_owned);
        run(command("nginx").unwrap().arg("-t").args(&arguments));
        nginx.args(&arguments);
        Some(Proxy::started(nginx, directory, address, authority))
    }

    /// HAProxy with one of its two configurations.
    fn haproxy(file: &str, authority: &Arc<Authority>, [a, b]: [&Backend; 2]) -> Option<Proxy> {
        let mut haproxy = command("haproxy")?;
        let (directory, address) = (directory(), address());
        let place = |name: &str| directory.path().join(name);
        let both = ["chain.pem", "key.pem"].map(|name| read(text(&authority.path(name))));
        fs::write(place("stream.pem"), both.concat()).unwrap();
        let server = |name: &str, backend: &Backend| {
            let Backend { listen, admin } = backend;
            format!("server {name} {listen} port {}", admin.port())
        };
        let mut config = replaced(
            &read(file),
            &[
                ("server a 10.0.0.11:8080", &server("a", a)),
                ("server b 10.0.0.12:8080", &server("b", b)),
                ("bind :443", &format!("bind {address}")),
                ("/run/haproxy/admin.sock", text(&place("admin.sock"))),
                ("75s", &format!("{}s", IDLE.as_secs())),
            ],
        );
        if config.contains(" crt ") {
            config = replaced(
                &config,
                &[("/etc/haproxy/tls/stream.pem", text(&place("stream.pem")))],
            );
        }
        fs::write(place("haproxy.cfg"), config).unwrap();
        let config = place("haproxy.cfg");
        run(command("haproxy").unwrap().args(["-c", "-f", text(&config)]));
        haproxy.args(["-W", "-db", "-f", text(&config)]);
        Some(Proxy::started(haproxy, directory, address, authority))
    }

    fn started(
        mut command: std::process::Command,
        directory: TempDir,
        address: SocketAddr,
        authority: &Arc<Authority>,
    ) -> Proxy {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let proxy = Proxy {
            program: Running(child),
            directory,
            address,
            authority: Arc::clone(authority),
        };
        eventually("the proxy serves", || proxy.try_connect(&[]).ok());
        proxy
    }

    fn try_connect(&self, headers: &[(&'static str, &str)]) -> Result<Client, String> {
        self.try_connect_from(Ipv4Addr::LOCALHOST, headers)
    }

    fn try_connect_from(&self, client: Ipv4Addr, headers: &[(&'static str, &str)]) -> Result<Client, String> {
        let line = tls_from(client, self.address, &self.authority.believers()).map_err(|e| e.to_string())?;
        Client::over(line, headers).map_err(|refused| format!("{} {}", refused.status, refused.body))
    }

    fn connect(&self) -> Client {
        self.try_connect(&[]).unwrap_or_else(|error| panic!("{error}"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program.0), signal).unwrap();
    }

    fn log(&self) -> String {
        read(text(&self.directory.path().join("log")))
    }

    /// Asks HAProxy by its socket.
    fn ask(&self, question: &str) -> String {
        let socket: PathBuf = self.directory.path().join("admin.sock");
        let mut socket = UnixStream::connect(socket).unwrap();
        writeln!(socket, "{question}").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// From an address of this machine's own, by TLS.
fn tls_from(client: Ipv4Addr, address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Line> {
    let Line::Plain(mut stream) = Line::from(client, address)? else {
        unreachable!()
    };
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(Line::Tls(Box::new(StreamOwned::new(session, stream))))
}

fn setup(database: &Database) -> Setup {
    Setup::new(database)
        .flag("--trusted-proxies", "127.0.0.1")
        // Nothing but pings says something to a quiet client.
        .flag("--progress-interval", "1h")
        .flag("--ping-interval", PING)
        .flag("--log", "walcast=debug")
}

/// A client that is quiet for three times as long as the proxy bears it, and rows that are larger than any buffer on the
/// way.
fn quiet_times_and_large_frames_pass(database: &Database, proxy: &Proxy) {
    let mut client = proxy.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    // Pings keep it. They are answered while it reads.
    let quiet = loop {
        match client.next_text(Instant::now() + 3 * IDLE) {
            // As far as it had come when it went live.
            Incoming::Message(text) if text.contains("\"progress\"") => {}
            other => break other,
        }
    };
    assert!(matches!(quiet, Incoming::Nothing), "{quiet:?}");
    database.sql("INSERT INTO t SELECT 1, string_agg(md5(g::text), '') FROM generate_series(1, 100000) g");
    let note = client.change()["row"]["note"].clone();
    assert_eq!(note.as_str().unwrap().len(), 3_200_000);
    let there = database.value("SELECT md5(note) FROM t");
    assert_eq!(
        database.value(&format!("SELECT md5('{}')", note.as_str().unwrap())),
        there
    );
    // About as long as a list may be.
    let list: Vec<String> = (1_000_000_000..1_000_001_000).map(|id| id.to_string()).collect();
    let wanted = format!("id IN ({})", list.join(", "));
    client.subscribe(json!({"id": "long", "table": "t", "where": wanted}));
}

/// The address of a client is the one that it comes from, whatever it says.
fn clients_have_their_own_addresses(walcast: &Walcast, proxy: &Proxy) {
    let own = Ipv4Addr::new(127, 0, 0, 77);
    let forged = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
    ];
    let _client = proxy.try_connect_from(own, &forged).unwrap();
    walcast.logs("\"client\":\"127.0.0.77\"");
    assert!(!walcast.log().contains("203.0.113.9"));
}

/// A stop of walcast is told to clients as one, and they go on with the next one where they were.
fn a_takeover_keeps_every_change(database: &Database, setup: &Setup, proxy: &Proxy, first: Walcast) {
    let mut client = proxy.connect();
    let position = client.subscribe_live(json!({"id": "t", "table": "t"}))["position"].clone();
    let epoch = client.hello["epoch"].clone();
    let _meanwhile = setup;
    assert!(first.stop().success());
    let End::Closed(code, _) = client.end() else {
        panic!("it was lost")
    };
    assert_eq!(code, 1001);
    database.sql("INSERT INTO t VALUES (100, 'meanwhile')");
    let mut client = eventually("the standby serves", || proxy.try_connect(&[]).ok());
    client.subscribe(json!({"id": "t", "table": "t", "from": position, "epoch": epoch}));
    assert_eq!(client.change()["row"]["id"], 100);
}

/// Two on one slot: the one that serves, and the standby.
fn pair(database: &Database) -> (Walcast, Walcast, Setup, Setup) {
    let (first, second) = (setup(database), setup(database));
    let serves = first.start();
    let waits = second.start_unready();
    eventually("it waits", || {
        waits.ready().err().filter(|reason| reason.contains("standby"))
    });
    eventually_equal("it is seen", 1.0, || serves.metric("standbys"));
    // From there on the standby knows all there is to know, and goes on with the epoch.
    let written = database.written();
    eventually("it is confirmed", || {
        (database.confirmed(&first.slot) >= written).then_some(())
    });
    (serves, waits, first, second)
}

#[test]
fn nginx_passes_on_what_walcast_and_its_clients_say() {
    let database = Database::new(SCHEMA);
    let (serves, waits, _first, second) = pair(&database);
    let authority = Arc::new(Authority::new(2100));
    // The standby first: nginx finds the other one.
    let backends = [&Backend::of(&waits), &Backend::of(&serves)];
    let Some(proxy) = Proxy::nginx(&authority, backends) else {
        return;
    };
    quiet_times_and_large_frames_pass(&database, &proxy);
    clients_have_their_own_addresses(&serves, &proxy);

    // A reload: who is connected stays, who comes is served.
    let mut before = proxy.connect();
    before.subscribe_live(json!({"id": "t", "table": "t"}));
    proxy.signal(Signal::HUP);
    let mut after = proxy.connect();
    after.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t VALUES (50, 'reloaded')");
    for client in [&mut before, &mut after] {
        assert_eq!(client.change()["row"]["id"], 50, "{}", proxy.log());
    }
    a_takeover_keeps_every_change(&database, &second, &proxy, serves);
}

#[test]
fn haproxy_passes_on_what_walcast_and_its_clients_say() {
    let database = Database::new(SCHEMA);
    let (serves, waits, _first, second) = pair(&database);
    let authority = Arc::new(Authority::new(2100));
    let backends = [&Backend::of(&waits), &Backend::of(&serves)];
    let Some(proxy) = Proxy::haproxy("deploy/haproxy/haproxy.cfg", &authority, backends) else {
        return;
    };
    quiet_times_and_large_frames_pass(&database, &proxy);
    clients_have_their_own_addresses(&serves, &proxy);

    // A server that is drained keeps its clients, and gets no more.
    let mut before = proxy.connect();
    before.subscribe_live(json!({"id": "t", "table": "t"}));
    proxy.ask("set server walcast/b state drain");
    let refused = proxy.try_connect(&[]).err().unwrap();
    assert!(refused.starts_with("503"), "{refused}");
    database.sql("INSERT INTO t VALUES (50, 'drained')");
    assert_eq!(before.change()["row"]["id"], 50, "{}", proxy.log());
    proxy.ask("set server walcast/b state ready");
    eventually("it is served again", || proxy.try_connect(&[]).ok());
    a_takeover_keeps_every_change(&database, &second, &proxy, serves);
}

#[test]
fn haproxy_names_clients_by_the_proxy_protocol_where_walcast_has_the_certificate() {
    let database = Database::new(SCHEMA);
    let authority = Arc::new(Authority::new(2100));
    let setup = authority.shown_by(setup(&database)).switch("--proxy-protocol");
    let walcast = setup.start();
    let nobody = Backend {
        listen: address(),
        admin: address(),
    };
    let backends = [&Backend::of(&walcast), &nobody];
    let Some(proxy) = Proxy::haproxy("deploy/haproxy/haproxy-tcp.cfg", &authority, backends) else {
        return;
    };
    quiet_times_and_large_frames_pass(&database, &proxy);
    clients_have_their_own_addresses(&walcast, &proxy);
    // Without the header nobody gets past the proxy.
    assert!(TcpStream::connect(walcast.listen()).is_ok());
    assert!(Client::over(Line::from(Ipv4Addr::LOCALHOST, walcast.listen()).unwrap(), &[]).is_err());
}

#[test]
fn caddy_understands_its_file() {
    let Some(mut caddy) = command("caddy") else { return };
    let home = TempDir::new().unwrap();
    caddy
        .env("HOME", home.path())
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME");
    run(caddy.args([
        "validate",
        "--adapter",
        "caddyfile",
        "--config",
        "deploy/caddy/Caddyfile",
    ]));
}
