//! What is generated: the same as what is checked in, and shell that every shell can read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use gse_dracut::{Category, Contents, File, Files, Hook, modules};

fn checked_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules.d")
}

fn write(files: &Files, into: &Path) {
    for (path, file) in files {
        let path = into.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &file.bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).unwrap();
    }
}

fn read(top: &Path) -> Files {
    let mut files = Files::new();
    for module in fs::read_dir(top).unwrap() {
        for file in fs::read_dir(module.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            files.insert(name, File { mode, bytes: fs::read(&path).unwrap() });
        }
    }
    files
}

/// One with everything in it.
fn full() -> Contents {
    let hook = |place, name: &str| {
        let (point, priority) = Hook::parse_place(place).unwrap();
        Hook { point, priority, name: name.to_owned(), script: b"#!/bin/sh\necho hello\n".to_vec() }
    };
    Contents {
        controller: Some(b"\x7fELF".to_vec()),
        config: BTreeMap::from([("config.d/sources.toml".to_owned(), File::text("x = 1\n"))]),
        cmdline: Some(" quiet gse.debug ".to_owned()),
        hooks: vec![hook("pre-mount 08", "net.sh"), hook("initqueue/settled 3", "it's $mine")],
        modprobe: Some(b"options e1000e Debug=1\n".to_vec()),
        ..Contents::default()
    }
}

/// `GSE_BLESS=1 cargo test -p gse-dracut` writes them anew.
#[test]
fn the_modules_that_are_checked_in_are_those_that_are_generated() {
    let generated = modules(&Contents::default(), &Category::ALL);
    if std::env::var_os("GSE_BLESS").is_some() {
        let _ = fs::remove_dir_all(checked_in());
        write(&generated, &checked_in());
    }
    let found = read(&checked_in());
    assert_eq!(found.keys().collect::<Vec<_>>(), generated.keys().collect::<Vec<_>>());
    for (path, file) in &generated {
        assert_eq!(found.get(path), Some(file), "modules.d/{path}");
    }
}

#[test]
fn the_shell_is_posix_and_has_no_mistake_that_shellcheck_knows() {
    let dir = tempfile::tempdir().unwrap();
    let files = modules(&full(), &Category::ALL);
    write(&files, dir.path());
    let scripts: Vec<PathBuf> = files
        .keys()
        .filter(|name| name.ends_with(".sh"))
        .map(|name| dir.path().join(name))
        .collect();
    assert!(scripts.len() > 8, "{scripts:?}");
    let shellcheck = Command::new("shellcheck")
        .args(["--shell=sh", "--severity=style"])
        .args(&scripts)
        .output()
        .expect("shellcheck, which `make deps` installs");
    assert!(shellcheck.status.success(), "{}", String::from_utf8_lossy(&shellcheck.stdout));
    for script in &scripts {
        let dash = Command::new("dash").arg("-n").arg(script).output().unwrap();
        assert!(
            dash.status.success(),
            "{}: {}",
            script.display(),
            String::from_utf8_lossy(&dash.stderr)
        );
    }
}

#[test]
fn a_category_that_is_left_out_is_not_asked_for() {
    let files = modules(&full(), &[Category::Config, Category::Local]);
    let setup = String::from_utf8(files["50gse/module-setup.sh"].bytes.clone()).unwrap();
    assert!(setup.contains("for part in gse-config gse-local;"), "{setup}");
    assert!(!files.keys().any(|path| path.contains("gse-network") || path.contains("gse-storage")));
    // Nothing of an administrator's own: no module for it.
    let bare = modules(&Contents::default(), &Category::ALL);
    assert!(!bare.keys().any(|path| path.contains("gse-local")));
}

#[test]
fn hooks_are_installed_at_their_point_with_their_priority() {
    let files = modules(&full(), &Category::ALL);
    let setup = String::from_utf8(files["54gse-local/module-setup.sh"].bytes.clone()).unwrap();
    for line in [
        "inst_hook pre-mount 08 \"$moddir/gse-local-01-net.sh\"",
        "inst_hook initqueue/settled 03 \"$moddir/gse-local-02-it_s__mine.sh\"",
        "inst_simple \"$moddir/cmdline.conf\" /etc/cmdline.d/20-gse.conf",
        "inst_simple \"$moddir/modprobe.conf\" /etc/modprobe.d/gse-local.conf",
    ] {
        assert!(setup.contains(line), "{line}:\n{setup}");
    }
    assert_eq!(files["54gse-local/cmdline.conf"].bytes, b"quiet gse.debug\n");
    assert_eq!(files["51gse-config/root/config.d/sources.toml"].bytes, b"x = 1\n");
}
