//! The GSE profile: valid for pkgcheck, and what Portage makes of it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use gse_tests::lab::copy;

use crate::{support::Lab, whole::inside};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d/system/gse")
}

/// What pkgcheck says of the profile after `change` to it. Packages and USE flags that the stand-in for Gentoo's repository has not are
/// left out.
fn pkgcheck(change: impl FnOnce(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = |path: &str| root.path().join(path);
    fs::create_dir_all(path("etc/portage")).unwrap();
    let gentoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/repository");
    copy(&repository(), &path("gse"));
    change(&path("gse/profiles"));
    symlink(gentoo.join("profiles/default/linux/amd64/23.0"), path("etc/portage/make.profile"))
        .unwrap();
    let repos = format!(
        "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = {}\n[gse]\nlocation = {}\n",
        gentoo.display(),
        path("gse").display()
    );
    fs::write(path("etc/portage/repos.conf"), repos).unwrap();
    let output = Command::new(pkgcheck_program())
        .args(["scan", "--keywords=-UnknownProfilePackage,-UnknownProfileUse", "--repo"])
        .arg(path("gse"))
        .env("PORTAGE_CONFIGROOT", root.path())
        .env("HOME", root.path())
        .output()
        .unwrap();
    crate::support::both(&output)
}

fn pkgcheck_program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fixture-pkgcheck");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", crate::support::both(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("bin/pkgcheck")
}

#[test]
fn the_profile_is_valid_for_pkgcheck() {
    assert_eq!(pkgcheck(|_| {}), "\n---\n");
    for (file, text, expected) in [
        ("child-gse/packages", "=dev-lang/R\n", "child-gse/packages"),
        ("child-gse/parent", "../nobody\n", "nobody"),
        ("profiles.desc", "amd64 child dev\n", "child"),
    ] {
        let said = pkgcheck(|profiles| fs::write(profiles.join(file), text).unwrap());
        assert!(said.contains(expected), "{file}: {said}");
    }
}

#[test]
fn a_system_is_built_with_the_profile() {
    let lab = Lab::new();
    let url = lab.url().to_owned();
    lab.configure(&[&url], "[portage]\nprofile = \"gse:child-gse\"\n");
    copy(&repository(), &lab.config().join("gse"));
    let portage = repository().join("../portage/repos.conf");
    fs::create_dir_all(lab.config().join("portage")).unwrap();
    copy(&portage, &lab.config().join("portage/repos.conf"));
    // The stand-in for Gentoo's repository has few packages.
    lab.write("gse/profiles/parent-gse/packages", "app-misc/robust\n");
    lab.write("gse/profiles/child-gse/packages", "app-misc/lab-tools\n");
    lab.write("gse/profiles/child-gse/package.use", "app-misc/lab-tools extra\n");
    lab.builds(&["--lawful-good=gparte,gpartf,gpartg"]);
    let profile = fs::read_link(lab.tree("etc/portage/make.profile")).unwrap();
    assert!(profile.ends_with("var/db/repos/gse/profiles/child-gse"), "{}", profile.display());
    let flags = inside(&lab, &["portageq", "envvar", "USE"]);
    for flag in ["fortran", "lapack", "unicode", "sqlite"] {
        assert!(flags.split_whitespace().any(|f| f == flag), "{flag} in {flags}");
    }
    // They belong to the profile: nobody selected them, and depclean leaves them alone.
    assert_eq!(inside(&lab, &["lab-tools"]), "extra: yes\n");
    assert!(lab.tree("usr/share/robust/built").exists());
    let world = fs::read_to_string(lab.tree("var/lib/portage/world")).unwrap_or_default();
    assert!(!world.contains("lab-tools"), "{world}");
}
