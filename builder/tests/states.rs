//! Saved runs, run again after the configuration was changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod archive_support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use archive_support::{Lab, fail, gse, run};

/// A lab with a configuration of one file that every gse accepts.
fn lab() -> Lab {
    let lab = Lab::new();
    fs::write(lab.tree.join("file"), "content").unwrap();
    fs::create_dir_all(lab.path("config.d/system")).unwrap();
    fs::write(lab.path("config.d/system/packages"), "app-editors/nano\n").unwrap();
    lab
}

const RUN: [&str; 4] = ["--archive=tree", "--version=1", "--dist=dist", "--key=key"];

fn ask(lab: &Lab, flags: &[&str]) -> String {
    String::from_utf8(run(gse(&lab.path(".")).args(flags)).stdout).unwrap()
}

fn saved(lab: &Lab, name: &str) {
    let state = format!("--time-state={name}");
    ask(lab, &[&RUN[..], &[&state]].concat());
}

fn image(lab: &Lab, version: &str) -> Vec<u8> {
    fs::read(lab.dist.join(format!("images/gse-{version}/system.tar.zst"))).unwrap()
}

#[test]
fn a_warp_makes_the_same_image_byte_for_byte_under_the_next_number() {
    let lab = lab();
    saved(&lab, "first");
    fs::remove_dir_all(lab.path("config.d")).unwrap();
    let output = run(gse(&lab.path(".")).arg("--time-warp=1"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("this one is called 1+2"), "{said}");
    assert_eq!(image(&lab, "1"), image(&lab, "1+2"));
    // In the place of the first, everything but what was signed at another time is the same.
    let index = || fs::read(lab.dist.join("images/gse-1/index.cbor.zst")).unwrap();
    let before = index();
    fs::remove_dir_all(&lab.dist).unwrap();
    ask(&lab, &["--time-warp=first"]);
    assert_eq!(index(), before);
}

#[test]
fn states_are_listed_by_number_and_deleted_by_it() {
    let lab = lab();
    assert!(ask(&lab, &["--time-state?"]).contains("no run is saved yet"));
    saved(&lab, "first");
    let said = ask(&lab, &["--time-state?"]);
    assert!(
        said.contains("  1  first: gse --archive=tree --version=1 --dist=dist --key=key\n"),
        "{said}"
    );
    let list: serde_json::Value =
        serde_json::from_str(&ask(&lab, &["--time-state=?", "--json"])).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["number"]), (&"first".into(), &1.into()));
    let said = fail(gse(&lab.path(".")).arg("--time-warp=2"), 1);
    assert!(said.contains("there is no state 2: there are 1 first"), "{said}");
    assert_eq!(ask(&lab, &["--time-state=-1"]), "deleted the state first\n");
    assert!(!lab.path("local/states/first").exists());
}

#[test]
fn a_warp_takes_no_other_flag() {
    let lab = lab();
    let said = fail(gse(&lab.path(".")).args(["--time-warp=1", "--verbose"]), 2);
    assert!(said.contains("has to be the only flag"), "{said}");
}

#[test]
fn another_run_does_not_get_the_name_and_the_same_one_goes_on() {
    let lab = lab();
    saved(&lab, "first");
    fs::remove_dir_all(&lab.dist).unwrap();
    saved(&lab, "first");
    fs::write(lab.path("config.d/system/packages"), "app-editors/vim\n").unwrap();
    let said = fail(gse(&lab.path(".")).args(RUN).arg("--time-state=first"), 1);
    assert!(said.contains("gse --time-state=-first deletes it"), "{said}");
    let said = fail(gse(&lab.path(".")).args(RUN).arg("--time-state=../x"), 1);
    assert!(said.contains("is no name for a state"), "{said}");
}

#[test]
fn a_copy_that_was_changed_stops_the_warp() {
    let lab = lab();
    saved(&lab, "first");
    let copy = lab.path("local/states/first/config.d/system/packages");
    fs::write(&copy, "app-editors/emacs\n").unwrap();
    fs::write(copy.with_file_name("timezone"), "UTC\n").unwrap();
    let said = fail(gse(&lab.path(".")).arg("--time-warp=1"), 1);
    assert!(said.contains("config.d/system/packages was changed\n"), "{said}");
    assert!(said.contains("config.d/system/timezone was added\n"), "{said}");
}

#[test]
fn a_state_of_an_older_gse_says_so() {
    let lab = lab();
    saved(&lab, "first");
    fs::remove_dir_all(&lab.dist).unwrap();
    let file = lab.path("local/states/first/state.toml");
    let text = fs::read_to_string(&file).unwrap();
    let change = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
    };
    change("gse = \"0.1.0\"", "gse = \"0.0.9\"");
    let output = run(gse(&lab.path(".")).arg("--time-warp=1"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("was saved by gse 0.0.9, and this is gse 0.1.0"), "{said}");
    change("--archive=tree", "--archived=tree");
    let said = fail(gse(&lab.path(".")).arg("--time-warp=1"), 1);
    assert!(said.contains("does not understand its flags"), "{said}");
    change("format = 1", "format = 0");
    let said = fail(gse(&lab.path(".")).arg("--time-warp=1"), 1);
    assert!(said.contains("in format 0, and gse 0.1.0 reads format 1"), "{said}");
}

/// A script that is the editor.
fn editor(lab: &Lab, text: &str) -> std::path::PathBuf {
    let path = lab.path("editor");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn edit(lab: &Lab, text: &str) -> Command {
    let editor = editor(lab, text);
    let mut command = gse(&lab.path("."));
    command.arg("--edit=first").env("EDITOR", editor).env_remove("VISUAL");
    command
}

#[test]
fn an_edited_state_is_taken_over_if_it_has_no_mistakes() {
    let lab = lab();
    saved(&lab, "first");
    let copy = lab.path("local/states/first/config.d/system/packages");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let said = fail(&mut edit(&lab, "echo 'no atom!' >\"$1\""), 1);
    assert!(said.contains("stays as it was") && said.contains("system/packages:1"), "{said}");
    assert_eq!(read(&copy), "app-editors/nano\n");
    run(&mut edit(&lab, "echo app-editors/vim >\"$1\""));
    assert_eq!(read(&copy), "app-editors/vim\n");
    ask(&lab, &["--time-warp=first"]);
    assert!(fail(&mut edit(&lab, "exit 3"), 1).contains("nothing was taken over"));
}
