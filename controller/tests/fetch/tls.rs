//! HTTPS, with authorities of the lab.

use rustls::crypto::ring;

use super::*;

/// A certificate for 127.0.0.1 and its key, signed by itself.
fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

/// Serves one connection, and gives the base URL.
fn serve(certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> (String, thread::JoinHandle<()>) {
    serve_with(certified, ring::default_provider(), rustls::ALL_VERSIONS)
}

fn serve_with(
    certified: &rcgen::CertifiedKey<rcgen::KeyPair>,
    provider: rustls::crypto::CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (String, thread::JoinHandle<()>) {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        server::serve_one(&[("file", b"secret")], rustls::StreamOwned::new(session, tcp));
    });
    (url, thread)
}

fn get(roots: Option<&[u8]>, url: &str) -> Result<Vec<u8>, FetchError> {
    let client = Client::new(roots, Patience::default()).unwrap();
    client.get_small(&format!("{url}file"), 100)
}

#[test]
fn a_server_with_a_trusted_certificate_is_served_by() {
    let certified = certificate();
    let (url, thread) = serve(&certified);
    assert_eq!(get(Some(certified.cert.pem().as_bytes()), &url).unwrap(), b"secret");
    thread.join().unwrap();
}

#[test]
fn a_server_may_speak_any_safe_version_and_insist_on_any_group_and_kind_of_key() {
    use rustls::version::{TLS12, TLS13};
    let kinds =
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    for kind in kinds {
        let signing_key = rcgen::KeyPair::generate_for(kind).unwrap();
        let parameters = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let cert = parameters.self_signed(&signing_key).unwrap();
        let certified = rcgen::CertifiedKey { cert, signing_key };
        for version in [&TLS12, &TLS13] {
            for group in ring::ALL_KX_GROUPS {
                let mut provider = ring::default_provider();
                provider.kx_groups = vec![*group];
                let (url, thread) = serve_with(&certified, provider, &[version]);
                let got = get(Some(certified.cert.pem().as_bytes()), &url);
                assert_eq!(got.unwrap(), b"secret", "{kind:?}, {version:?}, {group:?}");
                thread.join().unwrap();
            }
        }
    }
}

#[test]
fn a_server_with_another_certificate_is_refused() {
    let (url, thread) = serve(&certificate());
    let error = get(Some(certificate().cert.pem().as_bytes()), &url).unwrap_err();
    assert!(matches!(error.problem, Problem::Tls(_)), "{error}");
    assert!(error.to_string().contains("tls_roots in sources.toml"), "{error}");
    thread.join().unwrap();
}

#[test]
fn without_roots_https_fails_before_it_connects() {
    let error = get(None, "https://127.0.0.1:1/").unwrap_err();
    assert!(matches!(error.problem, Problem::NoRoots), "{error}");
}

#[test]
fn roots_that_are_none_are_refused() {
    for pem in
        ["", "not a certificate", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
    {
        assert!(Client::new(Some(pem.as_bytes()), Patience::default()).is_err(), "{pem:?}");
    }
}
