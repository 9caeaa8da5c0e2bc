//! TLS to a real Postgres: what each `sslmode` accepts and refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use walcast::cluster::{Cluster, Options};
use walcast::lsn::Lsn;
use walcast::postgres::*;

/// An authority, and a server with a certificate of its for `localhost`.
struct Server {
    cluster: Cluster,
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let hba = [
            "hostnossl all only_tls 127.0.0.1/32 reject",
            "hostssl all only_tls 127.0.0.1/32 scram-sha-256",
            "hostssl all no_tls 127.0.0.1/32 reject",
            "hostssl all by_cert 127.0.0.1/32 cert",
        ];
        let options = Options {
            tcp: true,
            hba: hba.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        let cluster = Cluster::start(&options).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let owned = |name: &str, text: &str| {
            let path = cluster.data().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let owner = fs::metadata(cluster.data()).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        };
        owned("server.crt", &certificate.pem());
        owned("server.key", &key.serialize_pem());
        owned("ca.crt", &authority.pem());
        cluster
            .append("postgresql.conf", "ssl = on\nssl_ca_file = 'ca.crt'")
            .unwrap();
        cluster.psql("CREATE ROLE only_tls LOGIN REPLICATION PASSWORD 'pw'; CREATE ROLE no_tls LOGIN; CREATE ROLE by_cert LOGIN; SELECT pg_reload_conf()");
        let server = Server {
            cluster,
            authority,
            directory: tempfile::tempdir().unwrap(),
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while server.connect("sslmode=require user=postgres").is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the server does not offer TLS"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn info(&self, parameters: &str) -> ConnInfo {
        let text = format!(
            "hostaddr=127.0.0.1 port={} dbname=postgres {parameters}",
            self.cluster.port()
        );
        ConnInfo::parse_with(&text, |_| None).unwrap()
    }

    fn connect(&self, parameters: &str) -> Result<Connection, Error> {
        Connection::connect(&self.info(parameters), Purpose::Application)
    }

    fn encrypted(&self, parameters: &str) -> bool {
        self.connect(parameters).unwrap().is_encrypted()
    }

    fn refused(&self, parameters: &str) -> String {
        self.connect(parameters).unwrap_err().to_string()
    }
}

fn self_signed() -> String {
    rcgen::generate_simple_self_signed(vec!["localhost".into()])
        .unwrap()
        .cert
        .pem()
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn each_sslmode_accepts_and_refuses_what_libpqs_does() {
    let server = Server::start();
    let root = display(&server.file("root.crt", &server.authority.pem()));
    let other = display(&server.file("other.crt", &self_signed()));

    assert!(!server.encrypted("user=postgres sslmode=disable"));
    assert!(!server.encrypted("user=postgres sslmode=allow"));
    assert!(server.encrypted("user=postgres sslmode=prefer"));
    assert!(server.encrypted("user=postgres sslmode=require"));
    assert!(
        server.encrypted("user=only_tls password=pw sslmode=allow"),
        "the second way of allow"
    );
    assert!(
        !server.encrypted("user=no_tls sslmode=prefer"),
        "the second way of prefer"
    );
    assert_eq!(
        server
            .connect("user=no_tls sslmode=require")
            .unwrap_err()
            .sqlstate(),
        Some("28000")
    );
    assert_eq!(
        server
            .connect("user=only_tls sslmode=disable")
            .unwrap_err()
            .sqlstate(),
        Some("28000")
    );
    assert_eq!(
        server
            .connect("user=only_tls password=no sslmode=prefer")
            .unwrap_err()
            .sqlstate(),
        Some("28P01")
    );

    for mode in ["require", "verify-ca"] {
        let wrong_name = format!("user=postgres host=elsewhere sslmode={mode} sslrootcert=");
        assert!(server.encrypted(&format!("{wrong_name}{root}")), "{mode}");
        assert!(
            server
                .refused(&format!("{wrong_name}{other}"))
                .contains("certificate"),
            "{mode}"
        );
    }
    assert!(server.encrypted(&format!(
        "user=postgres host=localhost sslmode=verify-full sslrootcert={root}"
    )));
    let error = server.refused(&format!(
        "user=postgres host=elsewhere sslmode=verify-full sslrootcert={root}"
    ));
    assert!(error.contains("elsewhere"), "{error}");
    let error = server.refused("user=postgres sslmode=verify-ca sslrootcert=/nowhere");
    assert!(error.contains("/nowhere"), "{error}");
    assert!(server.encrypted("user=postgres sslmode=require sslrootcert=/nowhere"));
    let unix = format!(
        "host={} user=postgres sslmode=verify-full",
        display(server.cluster.socket_directory())
    );
    let unix = ConnInfo::parse_with(&format!("{unix} port={}", server.cluster.port()), |_| None).unwrap();
    assert!(
        !Connection::connect(&unix, Purpose::Application)
            .unwrap()
            .is_encrypted(),
        "a unix socket never is"
    );

    // SCRAM bound to the channel: the server's certificate is hashed on both sides.
    assert!(server.encrypted("user=only_tls password=pw sslmode=require channel_binding=require"));

    // A client certificate, whose key others must not read.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "by_cert");
    let certificate = params.signed_by(&key, &server.authority).unwrap();
    let cert = display(&server.file("client.crt", &certificate.pem()));
    let key = server.file("client.key", &key.serialize_pem());
    let login = format!(
        "user=by_cert sslmode=require sslcert={cert} sslkey={}",
        display(&key)
    );
    assert!(server.encrypted(&login));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(server.refused(&login).contains("chmod 600"));

    streams_under_tls(&server);
}

fn streams_under_tls(server: &Server) {
    server
        .cluster
        .psql("CREATE TABLE t (id int PRIMARY KEY, x text); CREATE PUBLICATION p FOR TABLE t");
    let info = server.info("user=only_tls password=pw sslmode=require");
    let mut connection = Connection::connect(&info, Purpose::Replication).unwrap();
    let slot = SlotName::new("s").unwrap();
    connection.create_slot(&slot, "pgoutput", || true).unwrap();
    let start = StartReplication::pgoutput(slot, Lsn::ZERO, &[Publication::new("p").unwrap()]);
    let ReplicationStream { mut receiver, sender } = connection.start_replication(&start).unwrap();
    // Rows of all sizes, one of them larger than the receive buffer, while another thread sends.
    server.cluster.psql("INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 3000) i; INSERT INTO t VALUES (0, repeat('y', 3000000))");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut rows = 0;
    let mut bytes = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                sender.send(&StatusUpdate::default()).unwrap();
                std::thread::yield_now();
            }
        });
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while rows < 3001 && std::time::Instant::now() < deadline {
            receiver.fill(Duration::from_secs(1)).unwrap();
            while let Some(frame) = receiver.next().unwrap() {
                if let Frame::Data {
                    body: [b'I', rest @ ..],
                    ..
                } = frame
                {
                    rows += 1;
                    bytes += rest.len();
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(rows, 3001);
    assert!(bytes > 3_000_000 + 3000 * 3001 / 2, "{bytes}");
    receiver.finish(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_server_without_tls_is_refused_only_where_tls_is_asked_for() {
    let cluster = Cluster::start(&Options {
        tcp: true,
        ..Options::default()
    })
    .unwrap();
    let connect = |mode| {
        let text = format!(
            "postgresql://postgres@127.0.0.1:{}/postgres?sslmode={mode}",
            cluster.port()
        );
        Connection::connect(
            &ConnInfo::parse_with(&text, |_| None).unwrap(),
            Purpose::Application,
        )
    };
    for mode in ["disable", "allow", "prefer"] {
        assert!(!connect(mode).unwrap().is_encrypted(), "{mode}");
    }
    let error = connect("require").unwrap_err().to_string();
    assert!(error.contains("ssl = on"), "{error}");
}
