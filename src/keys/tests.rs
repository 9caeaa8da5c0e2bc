use std::os::unix::fs::PermissionsExt;

use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::fetch::Client;
use super::*;
use crate::auth::{Algorithm, JwksAddress};
use crate::config::Keys;
use crate::fetch::ExchangeError;
use crate::tls::{Roots, provider};

const SECRET: &str = "a secret of at least 32 bytes, as HS256 needs it";

fn options(algorithm: Algorithm, keys: Keys) -> Options {
    Options {
        rules: Rules {
            algorithms: vec![algorithm],
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::ZERO,
            role_claim: "role".into(),
        },
        keys,
        anonymous_role: None,
        timeout: Duration::from_secs(10),
    }
}

fn open(algorithm: Algorithm, keys: Keys) -> Result<Authenticator, Error> {
    Authenticator::open(options(algorithm, keys), &Metrics::new()).map(|(authenticator, _)| authenticator)
}

#[test]
fn files_and_variables_are_read_and_their_faults_said_without_their_contents() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("f");
    let write = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let says = |opened: Result<Authenticator, Error>, words: &str| {
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("a secret of"), "{error}");
    };
    let secret = || Keys::SecretFile(path.clone());
    says(open(Algorithm::HS256, secret()), "No such file");
    write(SECRET, 0o644);
    says(open(Algorithm::HS256, secret()), "/f: ");
    write(SECRET, 0o600);
    assert!(open(Algorithm::HS256, secret()).unwrap().is_ready());
    says(open(Algorithm::HS512, secret()), "HS512 needs 64");
    // 32 bytes, the last of which is an editor's line feed, are a secret of 31.
    write("a secret of 31 bytes, and no mor\n", 0o600);
    assert!(open(Algorithm::HS256, secret()).is_ok());
    // Reading again takes the new secret, or keeps the old one if the new one cannot be used.
    let held = open(Algorithm::HS256, secret()).unwrap();
    write("a secret of 31 bytes, and no mo\n", 0o600);
    assert!(held.reread().is_err() && held.is_ready());
    says(open(Algorithm::HS256, secret()), "31 bytes");
    let public = |name: &str| Keys::PublicKeyFile(PathBuf::from("tests/data/tokens").join(name));
    assert!(open(Algorithm::RS256, public("rsa.pub.pem")).is_ok());
    says(open(Algorithm::RS256, public("rsa1024.pub.pem")), "1024 bits");
    says(open(Algorithm::ES256, public("rsa.pub.pem")), "none for ES256");
    says(open(Algorithm::RS256, public("rsa.pem")), "no public key");
    write(r#"{"keys":[]}"#, 0o644);
    says(
        open(Algorithm::RS256, Keys::JwksFile(path.clone())),
        "none of its 0 keys",
    );
    let unset = Keys::SecretEnv("WALCAST_TEST_SECRET_THAT_IS_NOT_SET".into());
    says(
        open(Algorithm::HS256, unset),
        "WALCAST_TEST_SECRET_THAT_IS_NOT_SET: it is not set",
    );
}

fn client(url: &str) -> Client {
    Client::new(JwksAddress::parse(url).unwrap()).unwrap()
}

/// A server that gives every client this answer, and its address.
async fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _read = stream.read(&mut request).await;
                let _written = stream.write_all(&answer).await;
            });
        }
    });
    format!("http://{address}/jwks.json")
}

async fn get(answer: impl Into<Vec<u8>>) -> Result<bytes::Bytes, FetchError> {
    client(&answering(answer.into()).await).get().await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_is_read_whole_or_not_at_all() {
    assert_eq!(get(ok("{}")).await.unwrap(), "{}");
    // A body that ends with the connection, and one in chunks.
    assert_eq!(get("HTTP/1.1 200 OK\r\n\r\n{}").await.unwrap(), "{}");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert_eq!(get(chunked).await.unwrap(), "{}");
    let largest = "x".repeat(MAX_JWKS_BYTES);
    assert_eq!(get(ok(&largest)).await.unwrap().len(), MAX_JWKS_BYTES);
    for too_large in [
        ok(&"x".repeat(MAX_JWKS_BYTES + 1)),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2 * MAX_JWKS_BYTES)),
    ] {
        assert!(matches!(
            get(too_large).await,
            Err(FetchError::Exchange(ExchangeError::TooLarge(_)))
        ));
    }
    let cut = get("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}").await;
    assert!(
        matches!(
            cut,
            Err(FetchError::Exchange(
                ExchangeError::Body(_) | ExchangeError::Http(_)
            ))
        ),
        "{cut:?}"
    );
    assert!(matches!(
        get("nonsense\r\n\r\n").await,
        Err(FetchError::Exchange(ExchangeError::Http(_)))
    ));
    assert!(matches!(
        get("").await,
        Err(FetchError::Exchange(ExchangeError::Http(_)))
    ));
    let failed = get("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
    assert!(matches!(failed, Err(FetchError::Status(_))));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let there = answering(ok("{}").into()).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n");
        assert!(
            matches!(get(answer).await, Err(FetchError::Redirect(_))),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let mut client = client(&url);
    client.timeout = Duration::from_millis(20);
    let got = client.get().await;
    drop(listener);
    assert!(matches!(got, Err(FetchError::Timeout)), "{got:?}");
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_for_its_name() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(ok("{}").as_bytes()).await;
            let _closed = stream.shutdown().await;
        }
    });
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("root.pem");
    std::fs::write(&path, certificate.pem()).unwrap();
    let of = |host: &str, roots: &dyn Fn() -> Option<Roots>| {
        let address = JwksAddress::parse(&format!("https://{host}:{port}/jwks.json"));
        Client::trusting(address.unwrap(), roots)
    };
    let its_own = || Roots::file(&path).ok();
    assert_eq!(of("localhost", &its_own).unwrap().get().await.unwrap(), "{}");
    // A certificate for another name, and one of another authority.
    let other = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let elsewhere = place.path().join("other.pem");
    std::fs::write(&elsewhere, other.pem()).unwrap();
    for client in [
        of("127.0.0.1", &its_own),
        of("localhost", &|| Roots::file(&elsewhere).ok()),
    ] {
        let got = client.unwrap().get().await;
        assert!(matches!(got, Err(FetchError::Connect(_))), "{got:?}");
    }
    assert!(matches!(of("localhost", &|| None), Err(FetchError::NoRoots)));
}
