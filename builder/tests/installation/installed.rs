//! An installation in a temporary directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Removed with this.
pub(crate) struct Installed {
    dir: tempfile::TempDir,
}

impl Installed {
    /// By `make install`, with programs that are built already.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("built");
        fs::create_dir_all(bin.join("tools")).unwrap();
        // With what a debugger needs, it takes minutes to pack.
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(bin.join("gse")).arg(env!("CARGO_BIN_EXE_gse"));
        assert!(strip.status().unwrap().success());
        fs::write(bin.join("gse-controller"), "#!/bin/sh\n").unwrap();
        fs::write(bin.join("tools/mkfs.ext4"), "tool").unwrap();
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let output = Command::new("make")
            .arg("--directory")
            .arg(top)
            .args(["--old-file=programs", "PREFIX=/usr", "install"])
            .arg(format!("BIN={}", bin.display()))
            .arg(format!("DESTDIR={}", dir.path().join("root").display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { dir }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("root").join(below)
    }

    /// What it says about a flag, and its exit code.
    pub(crate) fn gse(&self, flag: &str) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } =
            Command::new(self.path("usr/bin/gse")).arg(flag).output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }
}
