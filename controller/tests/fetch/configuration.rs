//! A configuration that is newer than what a machine has.

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

    let flipping =
        Server::new(
            &[],
            |r: &Request| {
                if r.path == "config.tar" { Answer::Flip(700) } else { Answer::Right }
            },
        );
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
