//! What a system is built from: the stand-in for Gentoo's stage3 on a mirror, and a configuration that trusts its keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The keys of the mirror, as files in [`fixture`].
pub const KEYS: [&str; 2] = ["release.asc", "snapshot.asc"];

/// What `scripts/fixture-stage3` made; the mirror is the directory `mirror` in it.
pub fn fixture() -> &'static Path {
    static FIXTURE: OnceLock<PathBuf> = OnceLock::new();
    FIXTURE.get_or_init(|| gse_qemu::fixtures::stage3().unwrap())
}

/// A `build.toml` that takes sources from these mirrors, with its [`KEYS`] in `keys/`, and `more` text.
pub fn build_toml(mirrors: &[&str], more: &str) -> String {
    let [release, snapshot] = KEYS;
    format!(
        "[host]\nspace = 1\n[sources]\nmirrors = {mirrors:?}\nkeys = [\"keys/{release}\", \"keys/{snapshot}\"]\n\
         stage3_signers = [\"{}\"]\nsnapshot_signers = [\"{}\"]\n{more}\n",
        fingerprint(release),
        fingerprint(snapshot),
    )
}

fn fingerprint(key: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home.path())
        .args(["--batch", "--quiet", "--with-colons", "--show-keys"])
        .arg(fixture().join(key))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("fpr:")).unwrap();
    line.split(':').nth(9).unwrap().to_owned()
}
