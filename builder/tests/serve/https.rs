//! The same over HTTPS.

use std::{process::Command, sync::Arc};

use gse::serve::Limits;
use tempfile::TempDir;

use super::{FILE, Running, certificate, content, dist, tls};

/// A server, and what a client needs to trust it.
struct Https {
    server: Running,
    /// PEM
    certificate: String,
    /// The file that it is in.
    trusted: String,
    _folders: [TempDir; 2],
}

impl Https {
    fn new(limits: Limits) -> Self {
        let (dist, folder) = (dist(), tempfile::tempdir().unwrap());
        let (certificate, key) = certificate();
        let tls = tls(folder.path(), &certificate, &key);
        let trusted = tls.certificates.to_str().unwrap().to_owned();
        let server = Running::start(dist.path(), Some(tls), limits);
        Self { server, certificate, trusted, _folders: [dist, folder] }
    }

    /// A client that knows the certificate.
    fn agent(&self) -> ureq::Agent {
        let roots = ureq::tls::Certificate::from_pem(self.certificate.as_bytes()).unwrap();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[roots]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        ureq::Agent::config_builder().tls_config(tls).build().into()
    }
}

#[test]
fn https_is_served_to_those_who_know_the_certificate() {
    let https = Https::new(Limits::default());
    let server = &https.server;
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    assert_eq!(server.curl(&["--cacert", &https.trusted], "latest.toml"), "format = 1\n");

    let url = format!("{}{FILE}", server.url);
    let distrusting = Command::new("curl").args(["-s", &url]).status().unwrap();
    // "peer certificate cannot be authenticated", by curl's manual.
    assert_eq!(distrusting.code(), Some(60));

    let mut answer =
        https.agent().get(&url).header("Range", "bytes=1000000-1999999").call().unwrap();
    let bytes = answer.body_mut().read_to_vec().unwrap();
    assert!(bytes == content(3_000_000)[1_000_000..2_000_000]);
}

#[test]
fn clients_beyond_the_bound_are_told_so_over_https() {
    let https = Https::new(Limits { connections: 1, ..Limits::default() });
    let server = &https.server;
    // Its connection is kept for the next request.
    let agent = https.agent();
    let mut small = agent.get(format!("{}latest.toml", server.url)).call().unwrap();
    assert_eq!(small.body_mut().read_to_string().unwrap(), "format = 1\n");
    let format = "%{http_code} %header{retry-after}";
    let arguments = ["--cacert", &https.trusted, "-o", "/dev/null", "-w", format];
    assert_eq!(server.curl(&arguments, FILE), "503 10");
    assert_eq!(agent.get(format!("{}{FILE}", server.url)).call().unwrap().status(), 200);
}

#[test]
fn plain_http_to_an_https_port_is_turned_away() {
    let https = Https::new(Limits::default());
    let answer = https.server.answer("GET /latest.toml HTTP/1.0\r\n\r\n");
    assert!(!answer.contains("format"), "{answer}");
}
