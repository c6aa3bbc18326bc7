//! Keys, signatures and `--verify`, with the real minisign on the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod archive_support;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
    },
    process::{Command, Stdio},
};

use archive_support::{Lab, chain, fail, gse, run};
use gse::{
    keys::{self, SecretKey, load_public, public_file},
    password::{self, Password},
    verify::verify,
};
use gse_protocol::{
    Serial,
    sign::{Claim, Keys, Kind, Signature},
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const CLAIM: Claim = Claim { kind: Kind::Config, serial: Serial(7) };

fn text(text: &str) -> Result<Password, password::Error> {
    Password::new(text.to_owned())
}

#[test]
fn a_key_pair_is_written_once_and_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.key");
    let public = keys::generate(&file, None).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(load_public(&public_file(&file)).unwrap(), public);
    let before = fs::read(&file).unwrap();
    let error = chain(keys::generate(&file, None).unwrap_err());
    assert!(error.contains("keys are never written over"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);

    // With only the public key there, no secret key may be left without its other half.
    fs::remove_file(&file).unwrap();
    let error = chain(keys::generate(&file, None).unwrap_err());
    assert!(error.contains("lab.key.pub exists"), "{error}");
    assert!(!file.exists());
}

#[test]
fn what_gse_signs_minisign_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let public = keys::generate(&file, None).unwrap();
    let key = SecretKey::load(&file, password::ask).unwrap();
    let signature = key.sign(CLAIM, "name:lab version:1", b"content".as_slice()).unwrap();
    let keys = Keys(vec![public]);
    let parsed: Signature = signature.parse().unwrap();
    assert_eq!(parsed.verify(Kind::Config, b"content", &keys), Ok(CLAIM));
    assert!(parsed.verify(Kind::Config, b"Content", &keys).is_err());

    fs::write(directory.path().join("data"), "content").unwrap();
    fs::write(directory.path().join("data.minisig"), signature).unwrap();
    let mut minisign = Command::new("minisign");
    let output = run(minisign.args(["-V", "-p", "key.pub", "-m", "data"]).current_dir(&directory));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Trusted comment: gse config serial:7 name:lab version:1"), "{text}");
}

#[test]
fn minisign_signs_with_a_key_of_gse_and_gse_with_one_of_minisign() {
    let directory = tempfile::tempdir().unwrap();
    let ours = directory.path().join("ours");
    let public = keys::generate(&ours, None).unwrap();
    fs::write(directory.path().join("data"), "content").unwrap();
    let minisign = |arguments: &[&str]| {
        run(Command::new("minisign").args(arguments).current_dir(&directory));
    };
    minisign(&["-S", "-s", "ours", "-m", "data", "-t", "gse config serial:7"]);
    let signature = fs::read_to_string(directory.path().join("data.minisig")).unwrap();
    let parsed: Signature = signature.parse().unwrap();
    assert_eq!(parsed.verify(Kind::Config, b"content", &Keys(vec![public])), Ok(CLAIM));

    minisign(&["-G", "-W", "-p", "theirs.pub", "-s", "theirs"]);
    let theirs = SecretKey::load(&directory.path().join("theirs"), password::ask).unwrap();
    assert_eq!(*theirs.public(), load_public(&directory.path().join("theirs.pub")).unwrap());
    let signature = theirs.sign(CLAIM, "", b"content".as_slice()).unwrap();
    fs::write(directory.path().join("data.minisig"), signature).unwrap();
    minisign(&["-V", "-p", "theirs.pub", "-m", "data"]);
}

#[test]
fn an_encrypted_key_opens_with_its_password_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let public = keys::generate(&file, Some(text("correct horse").unwrap())).unwrap();
    let key = SecretKey::load(&file, || text("correct horse")).unwrap();
    assert_eq!(*key.public(), public);
    key.sign(CLAIM, "", b"content".as_slice()).unwrap();
    let error = chain(SecretKey::load(&file, || text("battery")).err().unwrap());
    assert!(error.starts_with("the password of ") && error.ends_with("is wrong"), "{error}");
}

#[test]
fn a_secret_key_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    keys::generate(&file, None).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = chain(SecretKey::load(&file, password::ask).err().unwrap());
        assert!(
            error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 600"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    keys::generate(&file, None).unwrap();
    let good = fs::read_to_string(&file).unwrap();
    let (comment, base64) = good.split_once('\n').unwrap();
    let other_digit = if &base64[100..101] == "A" { "B" } else { "A" };
    for bad in [
        String::new(),
        comment.to_owned(),
        format!("{comment}\nnot base64!\n"),
        format!("{comment}\n{}\n", &base64[..40]),
        fs::read_to_string(public_file(&file)).unwrap(),
        good.replace("RWQAAEIy", "RWRTeEIy"),
        // One digit changed, which the key's own checksum finds.
        format!("{comment}\n{}{}{}", &base64[..100], other_digit, &base64[101..]),
    ] {
        fs::write(&file, &bad).unwrap();
        let error = chain(SecretKey::load(&file, password::ask).err().expect(&bad));
        assert!(error.contains("is not a minisign secret key"), "{error}");
    }
}

#[test]
fn the_password_is_typed_twice_at_the_terminal_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let shown = at_a_terminal(
        gse(directory.path()).args(["--keygen=key", "--password"]),
        &[("Password for the new key: ", "one\n"), ("The same again: ", "two\n")],
    );
    assert!(shown.contains("the two passwords differ"), "{shown}");
    assert!(!directory.path().join("key").exists());

    let secret = "correct horse\n";
    let shown = at_a_terminal(
        gse(directory.path()).args(["--keygen=key", "--password"]),
        &[("Password for the new key: ", secret), ("The same again: ", secret)],
    );
    assert!(shown.contains("secret key") && !shown.contains("correct"), "{shown}");
    SecretKey::load(&directory.path().join("key"), || text("correct horse")).unwrap();

    fs::create_dir(directory.path().join("tree")).unwrap();
    let shown = at_a_terminal(
        gse(directory.path()).args(["--archive=tree", "--version=1", "--key=key"]),
        &[("Password of the secret key: ", secret)],
    );
    assert!(shown.contains("published gse 1 as serial 1"), "{shown}");
}

/// Runs a command whose controlling terminal is a new one, and types each answer when its prompt is
/// there; all that was shown.
fn at_a_terminal(command: &mut Command, answers: &[(&str, &str)]) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let name = std::ffi::OsStr::from_bytes(name.to_bytes()).to_owned();
    let theirs = || File::options().read(true).write(true).open(&name).unwrap();
    let mut wrapped = Command::new("setsid");
    wrapped
        .args(["--wait", "--ctty"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .env_remove(password::VARIABLE)
        .stdin(Stdio::from(theirs()))
        .stdout(Stdio::from(theirs()))
        .stderr(Stdio::from(theirs()));
    let mut child = wrapped.spawn().unwrap();
    drop(wrapped);

    let mut terminal = File::from(ours);
    let (mut shown, mut answers) = (String::new(), answers.iter());
    let mut next = answers.next();
    let mut buffer = [0; 1024];
    // Once the other side is closed, reading fails (EIO).
    while let Ok(read) = terminal.read(&mut buffer) {
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if let Some((prompt, answer)) = next
            && shown.ends_with(prompt)
        {
            terminal.write_all(answer.as_bytes()).unwrap();
            next = answers.next();
        }
    }
    child.wait().unwrap();
    assert!(next.is_none(), "{shown}");
    shown
}

#[test]
fn without_a_terminal_the_password_comes_from_the_environment() {
    let lab = Lab::new();
    let root = lab.path("");
    run(gse(&root).args(["--keygen=locked", "--password"]).env(password::VARIABLE, "horse"));
    let archive = || {
        let mut command = gse(&root);
        command.args(["--archive=tree", "--version=1", "--key=locked"]);
        command
    };
    let error = fail(archive().env(password::VARIABLE, "cow"), 1);
    assert_eq!(error, "gse: the password of locked is wrong\n");
    let mut detached = Command::new("setsid");
    detached.arg("--wait").arg(env!("CARGO_BIN_EXE_gse")).args(archive().get_args());
    let error = fail(detached.current_dir(&root).env_remove(password::VARIABLE), 1);
    assert!(error.contains("there is no terminal to ask on; set GSE_KEY_PASSWORD"), "{error}");
    run(archive().env(password::VARIABLE, "horse"));
}

#[test]
fn verify_tells_what_each_file_is() {
    let lab = Lab::new();
    fs::write(lab.tree.join("file"), "content").unwrap();
    let image = lab.archive("1").unwrap().path;
    let config = lab.dist.join("config.tar");
    fs::write(&config, "configuration").unwrap();
    let signature = lab.key.sign(CLAIM, "", b"configuration".as_slice()).unwrap();
    fs::write(lab.dist.join("config.tar.minisig"), signature).unwrap();
    for (file, kind, serial) in [
        (image.join("system.tar.zst"), "image", 1),
        (image.join("index.cbor.zst"), "index", 1),
        (lab.dist.join("latest.toml"), "release", 1),
        (config, "config", 7),
    ] {
        let verified = verify(&file, lab.key.public()).unwrap();
        assert_eq!((verified.kind.as_str(), verified.serial), (kind, Serial(serial)));
        let output = run(gse(&lab.path("")).arg("--key=key").arg("--verify").arg(&file));
        let text = String::from_utf8(output.stdout).unwrap();
        let id = lab.key.public().id();
        let want = format!(": {kind} with serial {serial}, signed by key {id}: ");
        assert!(text.contains(&want), "{text}");
    }
}

#[test]
fn verify_refuses_what_was_changed_cut_or_signed_otherwise() {
    let lab = Lab::new();
    fs::write(lab.tree.join("file"), "content").unwrap();
    let image = lab.archive("1").unwrap().path;
    let release = lab.dist.join("latest.toml");
    for file in [image.join("system.tar.zst"), image.join("index.cbor.zst"), release.clone()] {
        let good = fs::read(&file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for bad in [&flipped, &good[..good.len() - 1], &[]] {
            fs::write(&file, bad).unwrap();
            let error = fail(gse(&lab.path("")).arg("--key=key").arg("--verify").arg(&file), 1);
            assert!(error.contains("the file was changed or cut after it was signed"), "{error}");
        }
        fs::write(&file, good).unwrap();
    }

    // The signature of one kind of file, beside another.
    let signature = fs::read(lab.dist.join("latest.toml.minisig")).unwrap();
    fs::copy(image.join("index.cbor.zst.minisig"), lab.dist.join("latest.toml.minisig")).unwrap();
    let error = chain(verify(&release, lab.key.public()).unwrap_err());
    assert!(error.contains("this is the signature of a index, not of a release"), "{error}");
    fs::write(lab.dist.join("latest.toml.minisig"), signature).unwrap();

    let other = keys::generate(&lab.path("other"), None).unwrap();
    let error = chain(verify(&release, &other).unwrap_err());
    assert!(error.contains("was signed by another key than"), "{error}");

    // A release whose index has been exchanged for another one, well signed itself.
    lab.archive("2").unwrap();
    let (first, second) =
        (image.join("index.cbor.zst"), lab.dist.join("images/lab-2/index.cbor.zst"));
    fs::copy(&first, &second).unwrap();
    let error = chain(verify(&release, lab.key.public()).unwrap_err());
    assert!(error.contains("is not what latest.toml names"), "{error}");

    let plain = lab.path("notes.txt");
    fs::write(&plain, "").unwrap();
    fs::copy(lab.dist.join("latest.toml.minisig"), lab.path("notes.txt.minisig")).unwrap();
    let error = chain(verify(&plain, lab.key.public()).unwrap_err());
    assert!(error.contains("none of the files that gse signs"), "{error}");
}
