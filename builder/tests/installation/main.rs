//! `make install`, and what gse says of an installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod installed;
mod packages;

use std::{fs, path::PathBuf, process::Command};

use installed::Installed;

#[test]
fn an_installation_knows_whether_it_is_as_it_was_installed() {
    let installed = Installed::new();
    let (code, said) = installed.gse("-hc");
    assert!(code == Some(0) && said.contains("all as they were installed"), "{said}");

    // The manifest is one that sha256sum reads too.
    let check = Command::new("sha256sum")
        .args(["--check", "--quiet", "lib64/gse/manifest"])
        .current_dir(installed.path("usr"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));

    // To edit the configuration is what it is for.
    fs::write(installed.path("usr/lib64/gse/config.d/sources.toml"), "keys = []\n").unwrap();
    let (code, said) = installed.gse("--health-check");
    assert!(code == Some(0) && said.contains("configuration, edited: "), "{said}");

    fs::write(installed.path("usr/lib64/gse/gse-controller"), "another").unwrap();
    fs::remove_file(installed.path("usr/share/zsh/site-functions/_gse")).unwrap();
    let (code, said) = installed.gse("-hc");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("changed: ") && said.contains("lib64/gse/gse-controller\n"), "{said}");
    assert!(said.contains("missing: ") && said.contains("site-functions/_gse\n"), "{said}");
}

#[test]
fn the_default_configuration_comes_back_and_the_other_one_stays_aside() {
    let installed = Installed::new();
    let (code, said) = installed.gse("-rpn");
    assert!(code == Some(0) && said.contains("is the default one"), "{said}");
    let sources = installed.path("usr/lib64/gse/config.d/sources.toml");
    let default = fs::read(&sources).unwrap();
    fs::write(&sources, "keys = []\n").unwrap();
    fs::write(installed.path("usr/lib64/gse/config.d/mine"), "mine").unwrap();
    let (code, said) = installed.gse("--replace-new");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read(&sources).unwrap(), default);
    assert!(!installed.path("usr/lib64/gse/config.d/mine").exists());
    let aside = PathBuf::from(said.trim().rsplit(' ').next().unwrap());
    assert_eq!(fs::read_to_string(aside.join("sources.toml")).unwrap(), "keys = []\n");
    assert_eq!(fs::read_to_string(aside.join("mine")).unwrap(), "mine");
}

#[test]
fn a_gse_that_was_not_installed_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_gse")).arg("--health-check").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("lib64/gse/manifest"), "{said}");
}

#[test]
fn manual_completions_and_services_are_installed() {
    let installed = Installed::new();
    for file in [
        "usr/share/man/man1/gse.1",
        "usr/share/man/man5/gse.5",
        "usr/share/man/man5/gse-config.5",
        "usr/share/man/man8/gse-controller.8",
        "usr/share/bash-completion/completions/gse",
        "usr/share/zsh/site-functions/_gse",
        "usr/share/fish/vendor_completions.d/gse.fish",
        "usr/lib/systemd/system/gse.service",
        "etc/init.d/gse",
        "etc/conf.d/gse",
    ] {
        assert!(installed.path(file).is_file(), "{file}");
    }
}
