//! `gse-lab` used wrongly: a clear error at once, before anything is made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Output, Stdio};

use gse_qemu::lab::program;

fn lab(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("gse-lab").unwrap());
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let no_tree = tempfile::tempdir().unwrap();
    let no_tree = no_tree.path().to_str().unwrap();
    for (arguments, complaint) in [
        (vec!["run", "--tree", "/nonexistent"], "looking for /nonexistent"),
        (vec!["run", "--tree", no_tree], "no root tree"),
        (vec!["run", "--stage3", "/nonexistent.tar.xz"], "looking for /nonexistent.tar.xz"),
        (vec!["run", "--stage3", no_tree], "no tarball"),
        (vec!["run", "--filesystem", "ntfs"], "[possible values: btrfs, ext4, xfs]"),
        (vec!["run", "--console"], "needs a terminal"),
    ] {
        let output = lab(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
}
