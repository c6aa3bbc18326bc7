//! Nothing unverified is unpacked.

use std::fs;

use gse_tests::lab::copy;

use crate::support::{BUILDS, Lab, POINTER, SNAPSHOT, STAGE3, Server, clearsign};

const PART_A: &str = "--lawful-good=gpartb,gpartc,gpartd,gparte,gpartf,gpartg,gpartj,gpartk";

fn refused(tamper: impl FnOnce(&Lab), step: &str, expected: &str) {
    let lab = Lab::new();
    tamper(&lab);
    let said = lab.fails(&[PART_A]);
    assert!(said.contains(expected), "{said}");
    assert!(said.contains(&format!("stopped at {step}")), "{said}");
    assert!(!lab.tree("").exists(), "something was unpacked");
    assert!(!lab.tree("").with_extension("new").exists(), "something was unpacked");
}

/// The middle byte, in which there is content and no structure.
fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from));
    *bytes = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn a_changed_pointer_is_refused() {
    refused(
        |lab| {
            lab.tamper(POINTER, |bytes| {
                replace(bytes, "/stage3-amd64-openrc-2026", "/stage3-amd64-openrc-2027")
            })
        },
        "gseed",
        "the file was changed",
    );
}

#[test]
fn a_pointer_that_somebody_else_signed_is_refused() {
    // By a key that is in the keyring, but may sign snapshots only.
    let text = format!("{STAGE3} 1\n");
    refused(
        |lab| lab.tamper(POINTER, |bytes| *bytes = clearsign("snapshot", &text)),
        "gseed",
        "the signature is that of",
    );
}

#[test]
fn what_stands_beside_the_signed_text_is_not_read() {
    let text = "20990101T000000Z/stage3-amd64-openrc-20990101T000000Z.tar.xz 1\n";
    refused(
        |lab| {
            lab.tamper(POINTER, |bytes| {
                let unsigned = [text.as_bytes(), bytes].concat();
                *bytes = unsigned;
            });
            // The signed stage3 is not there, so that its name shows which text was read.
            fs::remove_file(lab.mirror(&format!("{BUILDS}/{STAGE3}"))).unwrap();
        },
        "gprec",
        STAGE3,
    );
}

#[test]
fn changed_digests_are_refused() {
    let digests = format!("{BUILDS}/{STAGE3}.DIGESTS");
    refused(
        |lab| lab.tamper(&digests, |bytes| replace(bytes, "# SHA512 HASH\n", "# SHA512 HASH\n00")),
        "gprec",
        "the file was changed",
    );
}

#[test]
fn a_changed_stage3_is_refused_and_removed() {
    let lab = Lab::with_small_stage3();
    let good = lab.dir.path().join("good");
    copy(&lab.mirror(""), &good);
    lab.tamper(&format!("{BUILDS}/{STAGE3}"), |bytes| flip(bytes));
    let said = lab.fails(&[PART_A]);
    assert!(said.contains("its digests are not those that were signed"), "{said}");
    assert!(!lab.tree("").exists());
    let left: Vec<_> = fs::read_dir(lab.local().join("downloads")).unwrap().flatten().collect();
    assert!(
        left.iter().all(|file| !file.file_name().to_string_lossy().contains(".tar.xz.part")),
        "{left:?}"
    );
    // From a good mirror after it, it is taken.
    let good = Server::start(&good);
    lab.configure(&[lab.url(), &good.url], "");
    lab.builds(&[PART_A]);
    assert!(lab.tree("bin/busybox").exists());
}

#[test]
fn a_changed_snapshot_is_refused() {
    refused(|lab| lab.tamper(SNAPSHOT, |bytes| flip(bytes)), "gsnap", "the file was changed");
}

#[test]
fn a_stage3_that_changed_after_it_was_verified_is_not_unpacked() {
    let lab = Lab::new();
    let more = format!("{PART_A},gextr");
    lab.builds(&[&more]);
    let file = lab.local().join("downloads").join(STAGE3.split('/').nth(1).unwrap());
    let mut bytes = fs::read(&file).unwrap();
    flip(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let said = lab.fails(&[PART_A, "--enforce=gextr"]);
    assert!(said.contains("was changed since it was verified"), "{said}");
    assert!(!lab.tree("").exists());
}

#[test]
fn without_keys_nothing_is_fetched() {
    let lab = Lab::new();
    fs::remove_dir_all(lab.config().join("keys")).unwrap();
    let said = lab.fails(&[PART_A]);
    assert!(
        said.contains("there is no key file") && said.contains("openpgp-keys-gentoo-release"),
        "{said}"
    );
}

#[test]
fn an_older_pointer_than_the_last_one_is_refused() {
    let lab = Lab::new();
    let more = format!("{PART_A},gprec,gextr");
    lab.builds(&[&more]);
    let old = "20200101T000000Z/stage3-amd64-openrc-20200101T000000Z.tar.xz 1\n";
    lab.tamper(POINTER, |bytes| *bytes = clearsign("release", old));
    let output = lab.build(&[&more, "--enforce=gseed"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("which is older than"), "{said}");
    // What was fetched before is good, unless everything has to be new.
    assert!(!output.status.success(), "--enforce takes nothing old: {said}");
    lab.builds(&[&more, "--force-new"]);
}
