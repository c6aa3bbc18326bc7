//! Checking and publishing a configuration, with real keys and real folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    io::Cursor,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use gse::publish::{Error, Options, Outcome, Warning, check, publish};
use gse_protocol::{
    Serial,
    config::{Bundle, Introduction},
    sign::{Claim, Keys, Kind, PublicKey},
};
use minisign::KeyPair;
use tempfile::TempDir;

/// A key pair and a lab's folders.
struct Lab {
    folder: TempDir,
    pair: KeyPair,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap(), pair: pair() };
        lab.sources(&[&lab.public()]);
        lab.write("controller/boot.toml", "[update]\npolicy = \"ask\"\n");
        lab.write("controller/system/files/etc/motd", "welcome\n");
        lab
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.d")
    }

    fn dist(&self) -> PathBuf {
        self.folder.path().join("dist.d")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.config().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn sources(&self, keys: &[&PublicKey]) {
        let keys: Vec<String> = keys.iter().map(|k| format!("\"{k}\"")).collect();
        let keys = keys.join(", ");
        self.write(
            "sources.toml",
            format!("servers = [\"http://gse.example/\"]\nkeys = [{keys}]\n"),
        );
    }

    fn public(&self) -> PublicKey {
        public(&self.pair)
    }

    fn publish(&self) -> Result<Outcome, Error> {
        self.publish_as(&self.pair)
    }

    fn publish_as(&self, pair: &KeyPair) -> Result<Outcome, Error> {
        let options = self.options(pair);
        publish(&options, |kind, serial, bytes| sign(pair, kind, serial, bytes))
    }

    fn options(&self, pair: &KeyPair) -> Options {
        let (config, dist) = (self.config(), self.dist());
        Options { config, dist, created: 1_700_000_000, signer: public(pair) }
    }

    /// What a machine makes of what is published.
    fn fetch(&self) -> Bundle {
        let tar = fs::read(self.dist().join("config.tar")).unwrap();
        let signature = fs::read_to_string(self.dist().join("config.tar.minisig")).unwrap();
        Bundle::open(&tar, &signature, &Keys(vec![self.public()])).unwrap()
    }

    fn mistakes(&self) -> Vec<String> {
        match check(&self.config()).unwrap_err() {
            Error::Mistakes(found) => found.iter().map(ToString::to_string).collect(),
            other => panic!("{other}"),
        }
    }
}

fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn public(pair: &KeyPair) -> PublicKey {
    pair.pk.to_base64().parse().unwrap()
}

fn sign(pair: &KeyPair, kind: Kind, serial: Serial, bytes: &[u8]) -> Result<String, String> {
    let claim = Claim { kind, serial }.to_string();
    minisign::sign(None, &pair.sk, Cursor::new(bytes), Some(&claim), None)
        .map(|signature| signature.to_string())
        .map_err(|e| e.to_string())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn machines_get_what_was_published_and_serials_rise() {
    let lab = Lab::new();
    lab.write("system/make.conf", "USE=x\n");
    let first = lab.publish().unwrap();
    assert_eq!(
        first.to_string(),
        "configuration 1 is published\n  added    controller/boot.toml\n  added    controller/system/files/etc/motd\n  added    sources.toml\n"
    );
    let bundle = lab.fetch();
    assert_eq!((bundle.serial, bundle.created), (Serial(1), 1_700_000_000));
    assert_eq!(bundle.system["files/etc/motd"].bytes, b"welcome\n");
    assert_eq!(names(&lab.dist()), ["config.tar", "config.tar.minisig"]);
    let mode = fs::metadata(lab.dist().join("config.tar")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    lab.write("controller/system/files/etc/motd", "hello\n");
    lab.write("controller/system/files/etc/issue", "lab\n");
    fs::remove_file(lab.config().join("controller/boot.toml")).unwrap();
    assert_eq!(
        lab.publish().unwrap().to_string(),
        "configuration 2 is published\n  removed  controller/boot.toml\n  added    controller/system/files/etc/issue\n  changed  controller/system/files/etc/motd\n"
    );
    assert_eq!(lab.fetch().serial, Serial(2));
}

#[test]
fn nothing_is_written_when_nothing_has_changed() {
    let lab = Lab::new();
    lab.publish().unwrap();
    let before = fs::read(lab.dist().join("config.tar.minisig")).unwrap();
    assert_eq!(lab.publish().unwrap(), Outcome::Unchanged(Serial(1)));
    // What only the builder reads is no change for machines.
    lab.write("system/make.conf", "USE=y\n");
    assert_eq!(lab.publish().unwrap(), Outcome::Unchanged(Serial(1)));
    assert_eq!(fs::read(lab.dist().join("config.tar.minisig")).unwrap(), before);
    // Permissions alone are.
    let motd = lab.config().join("controller/system/files/etc/motd");
    fs::set_permissions(motd, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(lab.publish().unwrap(), Outcome::Published(Serial(2), ..)));
}

#[test]
fn the_same_configuration_gives_the_same_bytes() {
    let (a, b) = (Lab::new(), Lab::new());
    b.sources(&[&a.public()]);
    a.publish().unwrap();
    b.publish_as(&a.pair).unwrap();
    let tar = |lab: &Lab| fs::read(lab.dist().join("config.tar")).unwrap();
    assert_eq!(tar(&a), tar(&b));
}

#[test]
fn every_mistake_of_every_file_is_told_at_once() {
    let lab = Lab::new();
    lab.write("sources.toml", "servers = []\nkeys = [\"RWnokey\"]\n");
    lab.write("controller/boot.toml", "[update]\npolicy = \"auto\"\nask_timout = 3\n");
    lab.write("controller/network.toml", "dns = [\"1.1.1.1\"\n");
    lab.write("controller/mounts.toml", b"userdata = \"/u\"\n# \xff\n");
    lab.write("controller/drive.toml", "");
    let found = lab.mistakes();
    assert_eq!(found.len(), 5, "{found:#?}");
    assert_eq!(
        found[0],
        "controller/boot.toml:3: unknown field `ask_timout`, expected one of `policy`, `mode`, `ask_timeout`, `ask_default`, `window`, `when_busy`, `spread`, `background` (did you mean `ask_timeout`?)"
    );
    assert_eq!(
        found[1],
        "controller/drive.toml: no machine reads a file of this name (did you mean `controller/drives.toml`?)"
    );
    assert_eq!(found[2], "controller/mounts.toml:2: this is not text in UTF-8");
    assert!(found[3].starts_with("controller/network.toml:"), "{}", found[3]);
    assert!(found[4].starts_with("sources.toml"), "{}", found[4]);
    assert!(matches!(lab.publish(), Err(Error::Mistakes(_))));
    assert!(!lab.dist().exists());
}

#[test]
fn what_must_not_be_published_is_refused_by_name() {
    let secret = minisign_secret();
    for (name, content, sentence) in [
        ("ssh/id", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "this is a private key"),
        ("tls.pem", "x\n  -----BEGIN RSA PRIVATE KEY-----\n", "this is a private key"),
        ("gse.key", &secret, "this is a minisign secret key"),
        ("motd~", "", "left over from an editor"),
        (".motd.swp", "", "left over from an editor"),
    ] {
        let lab = Lab::new();
        lab.write(&format!("controller/system/files/{name}"), content);
        let found = lab.mistakes();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("controller/system/files/{name}: ")), "{found:?}");
        assert!(found[0].contains(sentence), "{found:?}");
    }
}

fn minisign_secret() -> String {
    pair().sk.to_box(None).unwrap().into_string()
}

#[test]
fn links_are_followed_within_the_configuration_alone() {
    let lab = Lab::new();
    let system = lab.config().join("controller/system/files");
    symlink("etc/motd", system.join("inside")).unwrap();
    assert!(matches!(lab.publish(), Ok(Outcome::Published(..))));
    assert_eq!(lab.fetch().system["files/inside"].bytes, b"welcome\n");

    fs::write(lab.folder.path().join("outside"), "secret").unwrap();
    symlink("../../../../outside", system.join("relative")).unwrap();
    symlink("/etc/passwd", system.join("absolute")).unwrap();
    symlink("/etc", system.join("folder")).unwrap();
    symlink("etc", system.join("folder-inside")).unwrap();
    symlink("nothing", system.join("dangling")).unwrap();
    symlink("loop", system.join("loop")).unwrap();
    let pipe = system.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    let found = lab.mistakes();
    let leaves = "this is a link that leaves config.d: put a copy here";
    let irregular = "this is no regular file, nor a link to one";
    let expected: Vec<String> = [
        ("absolute", leaves),
        ("dangling", "this is a link to nothing"),
        ("folder", leaves),
        ("folder-inside", irregular),
        ("loop", leaves),
        ("pipe", irregular),
        ("relative", leaves),
    ]
    .iter()
    .map(|(name, message)| format!("controller/system/files/{name}: {message}"))
    .collect();
    assert_eq!(found, expected);
}

#[test]
fn certificates_travel_with_the_configuration_that_names_them() {
    let lab = Lab::new();
    let named = format!(
        "servers = [\"https://gse.example/\"]\nkeys = [\"{}\"]\ntls_roots = \"tls/roots.pem\"\n",
        lab.public()
    );
    lab.write("sources.toml", named);
    assert_eq!(
        lab.mistakes(),
        ["sources.toml:3: tls_roots names \"tls/roots.pem\", which is not in config.d"]
    );
    lab.write("tls/roots.pem", "-----BEGIN CERTIFICATE-----\n");
    lab.write("tls/other.pem", "");
    let Outcome::Published(_, changes, _) = lab.publish().unwrap() else { panic!("unchanged") };
    assert!(changes.0.iter().any(|(path, _)| path == "tls/roots.pem"));
    assert!(!changes.0.iter().any(|(path, _)| path == "tls/other.pem"));
}

#[test]
fn a_key_that_machines_would_not_trust_does_not_sign() {
    let lab = Lab::new();
    let other = pair();
    // Not in the new configuration.
    assert!(matches!(lab.publish_as(&other), Err(Error::SignerUnknown(..))));
    assert!(!lab.dist().exists());

    // In the new one, but machines still have one without it.
    lab.publish().unwrap();
    lab.sources(&[&lab.public(), &public(&other)]);
    let error = lab.publish_as(&other).unwrap_err();
    assert!(matches!(error, Error::SignerUntrusted { serial: Serial(1), .. }), "{error}");

    // Keys are rotated in two steps: add the new one, then leave the old one out.
    lab.publish().unwrap();
    lab.sources(&[&public(&other)]);
    assert!(matches!(lab.publish_as(&other), Ok(Outcome::Published(Serial(3), ..))));
}

#[test]
fn the_configuration_that_introduced_a_key_stays_published() {
    let lab = Lab::new();
    let (old, new) = (lab.public(), pair());
    lab.sources(&[&old, &public(&new)]);
    lab.publish().unwrap();
    let tar = fs::read(lab.dist().join("config.tar")).unwrap();
    let path = lab.dist().join(Introduction::path(public(&new).id()));
    assert!(!path.exists());
    lab.write("controller/system/files/etc/motd", "signed by the new one\n");
    lab.publish_as(&new).unwrap();
    assert_eq!(fs::read(&path).unwrap(), tar);
    let signature = fs::read_to_string(path.with_extension("tar.minisig")).unwrap();
    Bundle::open(&tar, &signature, &Keys(vec![old])).unwrap();
    // What the same key signs after that introduces nobody.
    lab.sources(&[&public(&new)]);
    lab.publish_as(&new).unwrap();
    assert_eq!(fs::read(&path).unwrap(), tar);
}

#[test]
fn who_publishes_is_told_of_consequences() {
    let lab = Lab::new();
    let new = pair();
    let warnings = |signer: &KeyPair| match lab.publish_as(signer).unwrap() {
        Outcome::Published(_, _, warnings) => warnings,
        unchanged => panic!("{unchanged:?}"),
    };
    assert_eq!(warnings(&lab.pair), []);
    let release = sign(&lab.pair, Kind::Release, Serial(1), b"release").unwrap();
    fs::write(lab.dist().join("latest.toml.minisig"), release).unwrap();
    lab.sources(&[&lab.public(), &public(&new)]);
    assert_eq!(warnings(&lab.pair), [Warning::Introduced(public(&new).id())]);
    lab.sources(&[&public(&new)]);
    let old = lab.public().id();
    assert_eq!(warnings(&new), [Warning::Release(old), Warning::Revoked(old)]);
    lab.write(
        "sources.toml",
        format!("servers = [\"http://new.example\"]\nkeys = [\"{}\"]\n", public(&new)),
    );
    lab.write("controller/boot.toml", "[wipe]\ntoken = \"spring\"\n");
    let moved = Warning::Moved(vec!["http://new.example/".to_owned()]);
    let wipe = Warning::Wipe("spring".to_owned());
    assert_eq!(warnings(&new), [Warning::Release(old), moved, wipe.clone()]);
    assert!(wipe.to_string().contains("every machine makes all of its systems new"), "{wipe}");
    lab.write("controller/boot.toml", "[wipe]\ntoken = \"../spring\"\n");
    let mistake = "controller/boot.toml:2: wipe.token \"../spring\" must be up to 64 letters";
    assert!(lab.mistakes()[0].starts_with(mistake), "{:?}", lab.mistakes());
}

#[test]
fn a_configuration_that_leads_nowhere_is_not_published() {
    let lab = Lab::new();
    lab.write("sources.toml", format!("servers = []\nkeys = [\"{}\"]\n", lab.public()));
    assert!(matches!(lab.publish(), Err(Error::NoServers)));
}

#[test]
fn a_signature_that_machines_would_refuse_is_not_published() {
    let lab = Lab::new();
    let options = lab.options(&lab.pair);
    for (what, result) in [
        ("other key", publish(&options, |k, s, b| sign(&pair(), k, s, b))),
        ("other kind", publish(&options, |_, s, b| sign(&lab.pair, Kind::Release, s, b))),
        ("other serial", publish(&options, |k, _, b| sign(&lab.pair, k, Serial(9), b))),
        ("other bytes", publish(&options, |k, s, _| sign(&lab.pair, k, s, b"other"))),
        ("no signature", publish(&options, |_, _, _| Ok::<_, String>(String::new()))),
        ("error", publish(&options, |_, _, _| Err("the key is locked"))),
    ] {
        assert!(result.is_err(), "{what}");
        assert!(names(&lab.dist()).is_empty(), "{what}");
    }
}

#[test]
fn publishing_again_mends_what_a_power_cut_left() {
    let lab = Lab::new();
    lab.publish().unwrap();
    // The new tar is there, the signature is still the old one.
    fs::write(lab.dist().join("config.tar"), "cut").unwrap();
    assert!(matches!(lab.publish().unwrap(), Outcome::Published(Serial(2), ..)));
    assert_eq!(lab.fetch().serial, Serial(2));
    fs::remove_file(lab.dist().join("config.tar")).unwrap();
    assert!(matches!(lab.publish().unwrap(), Outcome::Published(Serial(3), ..)));

    // The very first one was cut off before its signature.
    let lab = Lab::new();
    fs::create_dir(lab.dist()).unwrap();
    fs::write(lab.dist().join("config.tar"), "cut").unwrap();
    assert!(matches!(lab.publish().unwrap(), Outcome::Published(Serial(1), ..)));
}

#[test]
fn a_published_signature_that_is_broken_stops_the_next_one() {
    let lab = Lab::new();
    lab.publish().unwrap();
    let path = lab.dist().join("config.tar.minisig");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("serial:1", "serial:7")).unwrap();
    lab.write("controller/system/files/etc/motd", "changed\n");
    let error = lab.publish().unwrap_err();
    assert!(matches!(error, Error::Published { .. }), "{error}");
    assert!(error.to_string().contains("put back the file that was published"), "{error}");
}

#[test]
fn two_publishers_do_not_share_a_serial() {
    let lab = Lab::new();
    let outer = publish(&lab.options(&lab.pair), |kind, serial, bytes| {
        let inner = lab.publish().unwrap_err();
        assert!(matches!(inner, Error::Busy(_)), "{inner}");
        sign(&lab.pair, kind, serial, bytes)
    });
    assert!(matches!(outer, Ok(Outcome::Published(Serial(1), ..))));
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let lab = Lab::new();
    let error = check(&lab.folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    assert!(error.contains("--check-config=CONFIG.D"), "{error}");
    fs::remove_file(lab.config().join("sources.toml")).unwrap();
    assert_eq!(lab.mistakes(), ["sources.toml: this file is missing: it names servers and keys"]);
}
