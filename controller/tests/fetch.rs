//! Fetching from real servers on loopback, honest and lying ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs::{self, File},
    io::Read as _,
    net::TcpListener,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::{
    disk,
    pack::{self, Image, Signer},
    server::{self, Answer, Request, Server},
    tree,
};
use gse_controller::{
    config,
    fetch::{
        Client, ConfigError, FetchError, Patience, Problem, RemoteImage, Retry, choose,
        newer_config,
    },
    install::{FrameSources, InstallError, Limits, LocalTree, Plan, Report, Seed, install, make},
    log::Log,
};
use gse_protocol::{
    Release, Serial, Sha256,
    config::{
        Bundle, Introduction, Sources,
        bundle::{self, Files},
    },
    release::{ImageFile, IndexFile},
    sign::Kind,
};
use proptest::prelude::*;

fn client() -> Client {
    Client::new(None, Patience::default()).unwrap()
}

/// For servers that hang: no test waits for them longer than this.
fn impatient() -> Client {
    let short = Duration::from_secs(1);
    let patience = Patience {
        connect: short,
        answer: short,
        silence: short,
        small: 2 * short,
        ..Patience::default()
    };
    Client::new(None, patience).unwrap()
}

fn refused() -> String {
    // The port was free a moment ago, and nobody listens there now.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

mod small_files {
    use super::*;

    fn get(server: &Server, max: u64) -> Result<Vec<u8>, FetchError> {
        impatient().get_small(&format!("{}file", server.url()), max)
    }

    fn with(answer: Answer) -> Server {
        Server::new(&[("file", b"0123456789")], move |_| answer.clone())
    }

    #[test]
    fn they_come_whole() {
        assert_eq!(get(&with(Answer::Right), 10).unwrap(), b"0123456789");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_url() {
        let other = with(Answer::Right);
        for (answer, wanted) in [
            (Answer::Status(404), "HTTP status 404"),
            (Answer::Status(500), "HTTP status 500"),
            (Answer::Status(503), "HTTP status 503"),
            (Answer::Hang, "no answer in time"),
            (Answer::HangAfter(4), "no answer in time"),
            (Answer::CutAfter(4), "file: "),
            (Answer::Redirect(other.url().replace("http:", "https:")), "redirected"),
            (Answer::Redirect("ftp://127.0.0.1:1/".into()), "file: "),
            (Answer::Redirect("file".into()), "too many redirects"),
        ] {
            let server = with(answer.clone());
            let error = get(&server, 10).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}file: ", server.url())), "{error}");
            assert!(error.contains(wanted), "{answer:?}: {error}");
        }
        let error = impatient().get_small(&format!("{}file", refused()), 10).unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        let error = impatient().get_small("http://no-such-name.invalid/file", 10).unwrap_err();
        assert!(matches!(error.problem, Problem::NoAddress | Problem::Timeout(_)), "{error}");
    }

    #[test]
    fn a_redirect_on_the_same_server_is_followed() {
        let server = Server::new(&[("file", b"x"), ("there", b"found")], |r: &Request| {
            if r.path == "file" { Answer::Redirect("/there".into()) } else { Answer::Right }
        });
        assert_eq!(get(&server, 10).unwrap(), b"found");
    }

    #[test]
    fn one_byte_too_many_is_refused() {
        let error = get(&with(Answer::Right), 9).unwrap_err();
        assert!(matches!(error.problem, Problem::TooLarge { max: 9 }), "{error}");
    }
}

mod ranges {
    use super::*;

    fn open(answer: Answer, from: u64) -> Result<(Vec<u8>, Option<u64>), FetchError> {
        let server = Server::new(&[("file", b"0123456789")], move |_| answer.clone());
        let mut part = client().open_range(&format!("{}file", server.url()), from, None)?;
        let mut bytes = Vec::new();
        part.stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(part.validator.as_deref(), Some("\"10\""));
        Ok((bytes, part.total))
    }

    #[test]
    fn they_start_where_they_were_asked_to() {
        for answer in [Answer::Right, Answer::IgnoreRange] {
            for from in [0, 1, 7, 9] {
                let wanted = (b"0123456789"[from..].to_vec(), Some(10));
                assert_eq!(open(answer.clone(), from as u64).unwrap(), wanted, "{answer:?} {from}");
            }
        }
    }

    #[test]
    fn another_range_is_an_error() {
        let error = open(Answer::WrongRange, 5).unwrap_err();
        assert!(matches!(error.problem, Problem::Range(_)), "{error}");
        assert!(error.to_string().contains("bytes 4-8/10"), "{error}");
    }

    #[test]
    fn a_status_is_an_error() {
        let error = open(Answer::Status(503), 5).unwrap_err();
        assert!(matches!(error.problem, Problem::Status(503)), "{error}");
    }
}

mod tls {
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
        let key =
            rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
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
}

fn release(serial: u64) -> String {
    let index = IndexFile { path: "images/i".into(), size: 1, sha256: Sha256([0; 32]) };
    let image = ImageFile { path: "images/s".into(), size: 1, installed_size: 1, entries: 1 };
    let release = Release {
        format: 1,
        name: "lab".into(),
        version: "1".into(),
        serial: Serial(serial),
        created: 0,
        allow_downgrade: false,
        index,
        image,
        kernel: None,
    };
    release.to_toml()
}

fn sources(signer: &Signer, servers: &[String]) -> Sources {
    Sources { servers: servers.to_vec(), keys: signer.keys(), tls_roots: None, proxy: None }
}

mod servers {
    use super::*;

    fn publishing(
        signer: &Signer,
        serial: u64,
        decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let toml = release(serial);
        let signature = signer.sign(Kind::Release, serial, toml.as_bytes());
        let files: [(&str, &[u8]); 2] =
            [("latest.toml", toml.as_bytes()), ("latest.toml.minisig", signature.as_bytes())];
        Server::new(&files, decide)
    }

    #[test]
    fn the_first_that_answers_well_is_taken_and_the_rest_kept_but_for_the_bad() {
        let signer = Signer::new();
        let hanging = publishing(&signer, 3, |_| Answer::Hang);
        // The good one answers when the bad ones have: after that they have little time left.
        let (sender, answered) = mpsc::channel();
        let (from_broken, from_forged) = (sender.clone(), sender);
        let broken = publishing(&signer, 3, move |_| {
            from_broken.send(()).unwrap();
            Answer::Status(500)
        });
        let forged = publishing(&Signer::new(), 3, move |r: &Request| {
            if r.path == "latest.toml" {
                from_forged.send(()).unwrap();
            }
            Answer::Right
        });
        let answered = Mutex::new(answered);
        let good = publishing(&signer, 3, move |r: &Request| {
            if r.number == 0 {
                let answered = answered.lock().unwrap();
                (0..2).for_each(|_| answered.recv().unwrap());
            }
            Answer::Right
        });
        let all = [hanging.url(), broken.url(), forged.url(), good.url(), refused(), good.url()];
        let chosen = choose(&client(), &sources(&signer, &all)).unwrap();
        assert_eq!(chosen.release.serial, Serial(3));
        assert_eq!(chosen.servers, [good.url(), hanging.url()]);
        assert_eq!(chosen.bytes, release(3).as_bytes());
        assert!(Release::open(&chosen.bytes, &chosen.signature, &signer.keys()).is_ok());
    }

    #[test]
    fn where_no_server_is_any_good_each_is_named_with_what_is_wrong() {
        let signer = Signer::new();
        let hanging = publishing(&signer, 3, |_| Answer::Hang);
        let broken = publishing(&signer, 3, |_| Answer::Status(500));
        let empty = Server::honest(&[]);
        let forged = publishing(&Signer::new(), 3, |_| Answer::Right);
        let large = publishing(&signer, 3, |r: &Request| {
            let large = vec![b'#'; 1 << 20];
            if r.path == "latest.toml" { Answer::Instead(large) } else { Answer::Right }
        });
        let nobody = refused();
        let all = [&hanging, &broken, &empty, &forged, &large]
            .map(Server::url)
            .into_iter()
            .chain([nobody]);
        let all: Vec<String> = all.collect();
        let error = choose(&impatient(), &sources(&signer, &all)).unwrap_err();
        let text = error.to_string();
        for (server, wanted) in all.iter().zip([
            "no answer in time",
            "HTTP status 500",
            "HTTP status 404",
            "not among the trusted keys",
            "larger than 65536 bytes",
            "refused",
        ]) {
            let reason = error.reasons().find(|(s, _)| s == server).unwrap().1.to_string();
            assert!(reason.contains(wanted), "{reason}");
            assert!(text.contains(&format!("{server}: {reason}")), "{text}");
        }
        let none = choose(&client(), &sources(&signer, &[])).unwrap_err();
        assert!(none.to_string().contains("no server is named"), "{none}");
    }

    #[test]
    fn a_release_that_is_replaced_between_two_requests_is_fetched_again() {
        let signer = Arc::new(Signer::new());
        let old = signer.sign(Kind::Release, 2, release(2).as_bytes());
        let server = publishing(&signer, 3, move |r: &Request| {
            if r.number == 0 { Answer::Instead(old.clone().into_bytes()) } else { Answer::Right }
        });
        let chosen = choose(&client(), &sources(&signer, &[server.url()])).unwrap();
        assert_eq!(chosen.release.serial, Serial(3));
        let paths: Vec<String> = server.requests().into_iter().map(|r| r.path).collect();
        assert_eq!(paths, ["latest.toml.minisig", "latest.toml"].repeat(2));
    }

    #[test]
    fn a_release_that_stays_forged_is_fetched_twice_and_refused() {
        let signer = Signer::new();
        let server = publishing(&signer, 3, |r: &Request| {
            if r.path == "latest.toml" { Answer::Flip(20) } else { Answer::Right }
        });
        let error = choose(&client(), &sources(&signer, &[server.url()])).unwrap_err();
        assert!(error.to_string().contains("changed or cut after it was signed"), "{error}");
        assert_eq!(server.requests().len(), 4);
    }
}

mod configuration {
    use super::*;

    fn tar(signer: &Signer, serial: u64) -> Vec<u8> {
        tar_of(&[signer], serial)
    }

    fn tar_of(keys: &[&Signer], serial: u64) -> Vec<u8> {
        let keys: Vec<String> = keys.iter().map(|key| key.public()).collect();
        let toml = format!("servers = []\nkeys = {keys:?}\n");
        let file = bundle::File { mode: 0o644, bytes: toml.into_bytes() };
        bundle::pack(Serial(serial), 7, &Files::from([("sources.toml".to_owned(), file)])).unwrap()
    }

    fn publish(server: &Server, signer: &Signer, serial: u64) {
        let tar = tar(signer, serial);
        let signature = signer.sign(Kind::Config, serial, &tar);
        server.put("config.tar", &tar);
        server.put("config.tar.minisig", signature.as_bytes());
    }

    #[test]
    fn it_is_fetched_only_if_its_serial_is_higher() {
        let signer = Signer::new();
        let server = Server::honest(&[]);
        publish(&server, &signer, 5);
        let get = |current| newer_config(&client(), &server.url(), &signer.trust(current));
        assert_eq!(get(5).unwrap(), None);
        assert_eq!(get(6).unwrap(), None);
        assert!(server.requests().iter().all(|r| r.path == "config.tar.minisig"));
        let fetched = get(4).unwrap().unwrap();
        assert_eq!((fetched.bundle.serial, fetched.bundle.created), (Serial(5), 7));
        assert_eq!(fetched.tar, tar(&signer, 5));
    }

    #[test]
    fn a_key_that_is_introduced_is_trusted_now_and_at_the_next_start() {
        let (old, new) = (Signer::new(), Signer::new());
        let server = Server::honest(&[]);
        publish(&server, &new, 5);
        let get = || newer_config(&client(), &server.url(), &old.trust(1));
        assert!(matches!(get(), Err(ConfigError::Signature { .. })));
        let both = tar_of(&[&old, &new], 3);
        let path = Introduction::path(new.keys().0[0].id());
        server.put(&path, &both);
        let signature = old.sign(Kind::Config, 3, &both);
        server.put(&format!("{path}.minisig"), signature.as_bytes());
        let fetched = get().unwrap().unwrap();
        assert_eq!((fetched.bundle.serial, fetched.introductions.len()), (Serial(5), 1));

        // The initramfs knows the old key alone.
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path();
        config::keep(boot, &fetched).unwrap();
        let files = bundle::unpack(&tar(&old, 1)).unwrap();
        let files = files.into_iter().filter(|(name, _)| name != "serial").collect();
        let embedded = Bundle::from_files(Serial(0), 7, files).unwrap();
        let log = Log::console();
        assert_eq!(config::kept(boot, &embedded, &log), Some(fetched.bundle));
        // One that was built later, from a configuration without the new key, means what it says.
        let later = Bundle { created: 8, ..embedded.clone() };
        assert_eq!(config::kept(boot, &later, &log), None);
        fs::write(boot.join("gse").join(&path), "damaged").unwrap();
        assert_eq!(config::kept(boot, &embedded, &log), None);
    }

    #[test]
    fn one_that_is_not_to_be_trusted_is_refused() {
        let signer = Signer::new();
        let get =
            |server: &Server| newer_config(&client(), &server.url(), &signer.trust(1)).unwrap_err();
        let server = Server::honest(&[]);
        assert!(matches!(get(&server), ConfigError::Fetch(_)));
        publish(&server, &Signer::new(), 5);
        assert!(matches!(get(&server), ConfigError::Signature { .. }));

        let flipping = Server::new(&[], |r: &Request| {
            if r.path == "config.tar" { Answer::Flip(700) } else { Answer::Right }
        });
        publish(&flipping, &signer, 5);
        let error = get(&flipping);
        assert!(matches!(error, ConfigError::Bundle { .. }), "{error}");
        assert_eq!(flipping.requests().len(), 4);

        // The signature of a release is none of a configuration.
        let tar = tar(&signer, 5);
        server.put("config.tar", &tar);
        server.put("config.tar.minisig", signer.sign(Kind::Release, 5, &tar).as_bytes());
        let error = get(&server);
        assert!(error.to_string().contains("signature of a release"), "{error}");
    }
}

mod images {
    use super::*;

    const QUICK: Retry = Retry {
        rounds: 3,
        pause: Duration::ZERO,
        progress: 1000,
        back: Duration::from_secs(3600),
        busy: Duration::from_secs(5),
    };

    /// Where in the image, and on which server, reading went on.
    type Switches = Vec<(u64, String)>;

    /// Reads a whole image.
    fn read(
        client: Client,
        servers: &[&Server],
        size: usize,
    ) -> (Result<Vec<u8>, String>, Switches) {
        let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
        let switches = Mutex::new(Vec::new());
        let mut bytes = Vec::new();
        let mut image = RemoteImage::new(client, &urls, "file", size as u64, QUICK, |switch| {
            switches.lock().unwrap().push((switch.at, switch.next.to_owned()));
        });
        let done = image.read_to_end(&mut bytes).map_err(|e| e.to_string());
        if done.is_ok() {
            assert_eq!(image.received(), size as u64);
        }
        drop(image);
        (done.map(|_| bytes), switches.into_inner().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn connections_that_break_anywhere_are_resumed_at_that_byte(
            cuts in prop::collection::vec(0_usize..40_000, 1..6),
            ignores in any::<bool>(),
        ) {
            let file = tree::noise(5, 100_000);
            let first_cut = cuts[0];
            let first = Server::new(&[("file", &file)], move |r: &Request| {
                cuts.get(r.number).map_or(Answer::Right, |cut| Answer::CutAfter(*cut))
            });
            let second = Server::new(&[("file", &file)], move |_| {
                if ignores { Answer::IgnoreRange } else { Answer::Right }
            });
            let (bytes, switches) = read(client(), &[&first, &second], file.len());
            prop_assert!(bytes.unwrap() == file);
            prop_assert_eq!(switches, [(first_cut as u64, second.url())]);
            let from = second.requests()[0].from;
            prop_assert_eq!(from, (first_cut > 0).then_some(first_cut));
        }
    }

    #[test]
    fn one_server_that_breaks_often_is_enough_while_there_is_progress() {
        let file = tree::noise(6, 100_000);
        let server = Server::new(&[("file", &file)], |_| Answer::CutAfter(3_000));
        let (bytes, switches) = read(client(), &[&server], file.len());
        assert!(bytes.unwrap() == file);
        assert_eq!(switches.len(), 33);
    }

    #[test]
    fn servers_that_hang_refuse_or_send_another_range_are_left_for_the_next() {
        let file = tree::noise(7, 50_000);
        let serve = |answer: Answer| Server::new(&[("file", &file)], move |_| answer.clone());
        let silent = serve(Answer::HangAfter(10_000));
        let broken = serve(Answer::Status(503));
        let wrong = serve(Answer::WrongRange);
        let hanging = serve(Answer::Hang);
        let good = serve(Answer::Right);
        let servers = [&silent, &broken, &wrong, &hanging, &good];
        let (bytes, switches) = read(impatient(), &servers, file.len());
        assert!(bytes.unwrap() == file);
        let next = servers[1..].iter().map(|s| (10_000, s.url()));
        assert_eq!(switches, next.collect::<Vec<_>>());
    }

    #[test]
    fn a_server_whose_file_has_another_length_is_passed_over_for_good() {
        let file = tree::noise(8, 50_000);
        let other = Server::honest(&[("file", &file[1..])]);
        let good = Server::new(&[("file", &file)], |_| Answer::CutAfter(20_000));
        let (bytes, switches) = read(client(), &[&other, &good], file.len());
        assert!(bytes.unwrap() == file);
        assert_eq!(other.requests().len(), 1);
        assert!(switches.iter().all(|(_, next)| *next == good.url()));

        let (bytes, _) = read(client(), &[&other], file.len());
        let error = bytes.unwrap_err();
        assert!(error.contains("49999 bytes, and the index says 50000"), "{error}");
    }

    #[test]
    fn without_progress_it_is_given_up_with_the_byte_and_the_reason() {
        let file = tree::noise(9, 50_000);
        let serve = |after| {
            Server::new(&[("file", &file)], move |r: &Request| match r.number {
                0 => Answer::CutAfter(after),
                _ => Answer::Status(500),
            })
        };
        let (first, second) = (serve(30_000), serve(0));
        let (bytes, _) = read(client(), &[&first, &second], file.len());
        let error = bytes.unwrap_err();
        assert!(error.contains("stopped at byte 30000 of 50000"), "{error}");
        assert!(error.contains("HTTP status 500"), "{error}");
        // Three rounds of two servers; the first one's first answer was progress.
        assert_eq!(first.requests().len() + second.requests().len(), 6);

        // A byte each time is not progress.
        let dribbling = Server::new(&[("file", &file)], |_| Answer::CutAfter(1));
        let (bytes, _) = read(client(), &[&dribbling], file.len());
        assert!(bytes.unwrap_err().contains("stopped at byte 3 of 50000"));

        let (bytes, _) = read(client(), &[], file.len());
        assert!(bytes.unwrap_err().contains("no server is named"));
    }

    fn tree_and_image() -> (tempfile::TempDir, std::path::PathBuf, Image) {
        let (folder, original) = disk::folder();
        for number in 0..100 {
            let path = original.join(number.to_string());
            fs::write(path, tree::noise(number, 5000)).unwrap();
        }
        let image = pack::pack(&original, 20_000);
        (folder, original, image)
    }

    fn install_from(
        image: &Image,
        servers: &[&Server],
    ) -> Result<(Report, tempfile::TempDir), InstallError> {
        let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
        let size = image.index.packed_size();
        let mut source = RemoteImage::new(client(), &urls, "file", size, QUICK, |_| {});
        let target = tempfile::TempDir::new().unwrap();
        let root = File::open(target.path()).unwrap();
        let limits = Limits::default();
        let report = install(&image.index, &mut source, root.as_fd(), &|_| {}, &limits)?;
        Ok((report, target))
    }

    #[test]
    fn an_image_installs_from_servers_that_cut_and_flip_bits() {
        let (_folder, original, image) = tree_and_image();
        let length = image.tar_zst.len();
        let flipping = Server::new(&[("file", &image.tar_zst)], move |r| {
            Answer::Flip(r.number * 997 % length)
        });
        let cutting = Server::new(&[("file", &image.tar_zst)], |_| Answer::CutAfter(33_333));
        let (report, target) = install_from(&image, &[&flipping, &cutting]).unwrap();
        assert!(report.fetched_again >= 1);
        tree::assert_same(&original, target.path());
    }

    #[test]
    fn a_bit_that_flipped_once_on_the_way_is_fetched_again_from_the_only_server() {
        let (_folder, original, image) = tree_and_image();
        let middle = image.tar_zst.len() / 2;
        let server = Server::new(&[("file", &image.tar_zst)], move |r: &Request| {
            if r.number == 0 { Answer::Flip(middle) } else { Answer::Right }
        });
        let (report, target) = install_from(&image, &[&server]).unwrap();
        assert_eq!(report.fetched_again, 1);
        tree::assert_same(&original, target.path());
    }

    #[test]
    fn a_bit_that_is_flipped_on_all_servers_is_refused() {
        let (_folder, _, image) = tree_and_image();
        let middle = image.tar_zst.len() / 2;
        let serve = || Server::new(&[("file", &image.tar_zst)], move |_| Answer::Flip(middle));
        let error = install_from(&image, &[&serve(), &serve()]).unwrap_err();
        assert!(matches!(error, InstallError::Frame { .. }), "{error}");
    }

    #[test]
    fn an_image_that_no_server_has_whole_is_an_error_that_names_the_last_one() {
        let (_folder, _, image) = tree_and_image();
        let server = Server::honest(&[("file", &image.tar_zst[..1000])]);
        let error = install_from(&image, &[&server]).unwrap_err();
        assert!(matches!(error, InstallError::Source(_)), "{error}");
        assert!(error.to_string().contains(&server.url()), "{error}");
    }

    /// Installs with a machine's files, of which some are missing; what was requested of each server, and how much of the
    /// image came.
    fn update_from(
        image: &Image,
        missing: &[usize],
        servers: &[&Server],
        retry: Retry,
    ) -> Result<u64, String> {
        let (_old, old) = disk::folder();
        for number in (0..100).filter(|number| !missing.contains(number)) {
            fs::write(old.join(number.to_string()), tree::noise(number as u64, 5000)).unwrap();
        }
        let tree = LocalTree::open(&old, &old.join(".gse")).unwrap();
        let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
        let size = image.index.packed_size();
        let mut source = RemoteImage::new(impatient(), &urls, "file", size, retry, |_| {});
        let target = tempfile::TempDir::new().unwrap();
        let root = File::open(target.path()).unwrap();
        let seeds = [Seed::new(&tree, &image.index)];
        let plan = Plan::new(&image.index, &seeds, None).unwrap();
        let sources = FrameSources { patch: None, image: Some(&mut source) };
        let limits = Limits::default();
        make(&plan, sources, root.as_fd(), &|_, _| {}, &limits).map_err(|e| e.to_string())?;
        for number in 0..100 {
            let made = fs::read(target.path().join(number.to_string())).unwrap();
            assert_eq!(made, tree::noise(number, 5000), "{number}");
        }
        Ok(source.received())
    }

    #[test]
    fn only_the_runs_that_are_needed_are_asked_for_and_neighbours_in_one_request() {
        let (_folder, _, image) = tree_and_image();
        // In the order of names: 10, 11 and 12 are neighbours, 90 is far away.
        let missing = [10, 11, 12, 90];
        let server = Server::honest(&[("file", &image.tar_zst)]);
        let received = update_from(&image, &missing, &[&server], QUICK).unwrap();
        assert_eq!(server.requests().len(), 2, "{:?}", server.requests());
        assert!(server.requests().iter().all(|r| r.last.is_some()), "{:?}", server.requests());
        assert!(received < 150_000, "{received} bytes came");
        // Without ranges it comes from the start, and once.
        let server = Server::new(&[("file", &image.tar_zst)], |_| Answer::IgnoreRange);
        update_from(&image, &missing, &[&server], QUICK).unwrap();
        assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    }

    #[test]
    fn a_mirror_without_the_file_is_asked_once_and_the_first_server_is_gone_back_to() {
        let (_folder, _, image) = tree_and_image();
        let bytes: &[u8] = &image.tar_zst;
        let without = Server::honest(&[]);
        let good = Server::honest(&[("file", bytes)]);
        update_from(&image, &[10, 50, 90], &[&without, &good], QUICK).unwrap();
        assert_eq!((without.requests().len(), good.requests().len()), (1, 3));

        let first = Server::new(&[("file", bytes)], |request: &Request| match request.number {
            0 => Answer::Status(500),
            _ => Answer::Right,
        });
        let second = Server::honest(&[("file", bytes)]);
        let retry = Retry { back: Duration::ZERO, ..QUICK };
        update_from(&image, &[10, 50, 90], &[&first, &second], retry).unwrap();
        assert_eq!((first.requests().len(), second.requests().len()), (4, 0));
        let second = Server::honest(&[("file", bytes)]);
        let first = Server::new(&[("file", bytes)], |_| Answer::Status(500));
        update_from(&image, &[10, 50, 90], &[&first, &second], QUICK).unwrap();
        assert_eq!((first.requests().len(), second.requests().len()), (1, 3));
    }

    #[test]
    fn a_server_that_is_busy_is_left_in_peace_for_as_long_as_it_says() {
        let (_folder, _, image) = tree_and_image();
        let busy = |seconds| {
            Server::new(&[("file", &image.tar_zst)], move |request: &Request| {
                if request.number == 0 { Answer::Busy(seconds) } else { Answer::Right }
            })
        };
        let start = Instant::now();
        let server = busy(1);
        update_from(&image, &[10], &[&server], QUICK).unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!(server.requests().len(), 2);
        // Another server has time.
        let (server, free) = (busy(3600), busy(0));
        update_from(&image, &[10, 50], &[&server, &free], QUICK).unwrap();
        assert_eq!(server.requests().len(), 1);
        // Nobody has.
        let server = busy(3600);
        let error = update_from(&image, &[10], &[&server], QUICK).unwrap_err();
        assert!(error.contains("busy, and asks to come back in 3600 s"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn whatever_servers_do_the_tree_is_right_or_nothing_is(
            answers in prop::collection::vec((0_u8..9, any::<u32>()), 1..30),
            missing in prop::collection::vec(0_usize..100, 1..40),
        ) {
            let (_folder, _, image) = tree_and_image();
            let length = image.tar_zst.len();
            let lie = move |request: &Request| {
                let (kind, number) = answers[request.number % answers.len()];
                let at = number as usize % length;
                match kind {
                    0 => Answer::CutAfter(at),
                    1 => Answer::Flip(at),
                    2 => Answer::IgnoreRange,
                    3 if request.from.is_some_and(|from| from > 0) => Answer::WrongRange,
                    4 => Answer::Status(500),
                    5 => Answer::Busy(0),
                    6 => Answer::Instead(tree::noise(1, at)),
                    _ => Answer::Right,
                }
            };
            let liar = Server::new(&[("file", &image.tar_zst)], lie);
            let honest = Server::honest(&[("file", &image.tar_zst)]);
            // Alone it may fail, which it says; what is made is right.
            let _ = update_from(&image, &missing, &[&liar], QUICK);
            update_from(&image, &missing, &[&liar, &honest], QUICK).unwrap();
        }
    }
}
