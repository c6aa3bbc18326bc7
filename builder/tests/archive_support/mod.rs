//! A server's folders in a temporary directory: a tree, a key, and where images are published.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs,
    num::NonZero,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gse::{
    archive::{ArchiveOptions, Error, Summary, archive},
    keys::{self, SecretKey},
    password,
    progress::Progress,
};
use gse_protocol::{Index, sign::Keys};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub(crate) struct Lab {
    directory: tempfile::TempDir,
    pub(crate) tree: PathBuf,
    pub(crate) dist: PathBuf,
    pub(crate) key: SecretKey,
}

impl Lab {
    /// With an empty tree and a new key.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        fs::create_dir(path("tree")).unwrap();
        keys::generate(&path("key"), None).unwrap();
        let key = SecretKey::load(&path("key"), password::ask).unwrap();
        Self { tree: path("tree"), dist: path("dist"), key, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn options<'a>(&'a self, version: &'a str) -> ArchiveOptions<'a> {
        ArchiveOptions {
            tree: &self.tree,
            name: "lab",
            version,
            dist: &self.dist,
            key: &self.key,
            older_keys: &[],
            level: 3,
            allow_downgrade: false,
            kernel: None,
            latest: true,
            created: 1_700_000_000,
            until: None,
            patches: 0,
            threads: NonZero::new(3).unwrap(),
        }
    }

    pub(crate) fn archive(&self, version: &str) -> Result<Summary, Error> {
        archive(&self.options(version), &Progress::silent())
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys(vec![self.key.public().clone()])
    }

    /// The signed index in an image's folder.
    pub(crate) fn index(&self, image: &Path) -> Index {
        let bytes = fs::read(image.join("index.cbor.zst")).unwrap();
        let signature = fs::read_to_string(image.join("index.cbor.zst.minisig")).unwrap();
        Index::open(&bytes, &signature, &self.keys()).unwrap()
    }

    /// Every path below DIST, hidden ones too, with the content of files.
    pub(crate) fn published(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut waiting = vec![self.dist.clone()];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                found.push((path, Vec::new()));
            } else {
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
        found.sort();
        found
    }
}

/// A tmpfs, unmounted when it is dropped.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(crate) fn new(path: &Path, size: &str, flags: MountFlags) -> Self {
        fs::create_dir_all(path).unwrap();
        let data = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount("tmpfs", path, "tmpfs", flags, data.as_c_str()).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(e) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("unmounting {}: {e}", self.0.display());
        }
    }
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {:?} {:?}\n{}",
        output.status.code(),
        output.status.signal(),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The program, in a directory.
pub(crate) fn gse(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gse"));
    command.current_dir(directory).env_remove(password::VARIABLE);
    command
}

/// Runs a command that has to fail with this exit code; what it said.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{command:?}");
    text
}

/// A thrown error with its causes, as `gse` prints it.
pub(crate) fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
