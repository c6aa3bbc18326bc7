//! Reads the part of a `config.d` that machines receive.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::Path,
};

use crate::secrets::secret;
use gse_protocol::config::{
    Error as Mistake, Sources,
    bundle::{self, Files, MAX_BUNDLE},
};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) files: Files,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads `sources.toml`, everything below `controller/`, and the certificates that `sources.toml` names.
/// A file that must not be published is a mistake; the rest is read all the same, so that all mistakes
/// come to light at once.
pub(super) fn load(config: &Path) -> io::Result<Loaded> {
    let folder = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let mut loader =
        Loader { root: open(config, folder, Mode::empty())?, config, loaded: Loaded::default() };
    loader.file("sources.toml");
    if config.join("controller").is_dir() {
        loader.folder("controller")?;
    }
    if let Some(roots) = loader.tls_roots().filter(|r| !loader.loaded.files.contains_key(r)) {
        loader.file(&roots);
    }
    Ok(loader.loaded)
}

struct Loader<'c> {
    root: OwnedFd,
    config: &'c Path,
    loaded: Loaded,
}

impl Loader<'_> {
    fn tls_roots(&self) -> Option<String> {
        let sources = self.loaded.files.get("sources.toml")?;
        Sources::parse(str::from_utf8(&sources.bytes).ok()?).ok()?.tls_roots
    }

    fn mistake(&mut self, path: &str, message: impl Into<String>) {
        self.loaded.mistakes.push(Mistake::new(path, message));
    }

    fn folder(&mut self, path: &str) -> io::Result<()> {
        let mut entries = fs::read_dir(self.config.join(path))?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = plain_name(&name) else {
                let message = format!("{name:?} is no name in UTF-8 without control characters");
                self.mistake(path, message);
                continue;
            };
            let below = format!("{path}/{name}");
            let is_link = entry.file_type()?.is_symlink();
            if !is_link && entry.file_type()?.is_dir() {
                self.folder(&below)?;
            } else if name.ends_with('~') || name.ends_with(".swp") || name.starts_with(".#") {
                self.mistake(&below, "this is left over from an editor: remove it");
            } else {
                self.file(&below);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str) {
        match self.read(path) {
            Ok(file) => match secret(&file.bytes) {
                Some(what) => {
                    let message = format!(
                        "this is {what}, and whoever reaches the server could read it: keep it elsewhere"
                    );
                    self.mistake(path, message);
                }
                None => {
                    self.loaded.files.insert(path.to_owned(), file);
                }
            },
            // That a file is missing is for those to say who need it.
            Err(Unread::Open(Errno::NOENT))
                if fs::symlink_metadata(self.config.join(path)).is_err() => {}
            Err(Unread::Open(Errno::NOENT)) => self.mistake(path, "this is a link to nothing"),
            Err(Unread::Open(Errno::XDEV | Errno::LOOP)) => {
                self.mistake(path, "this is a link that leaves config.d: put a copy here");
            }
            Err(Unread::Open(e)) => self.mistake(path, format!("it cannot be opened: {e}")),
            Err(Unread::Irregular) => {
                self.mistake(path, "this is no regular file, nor a link to one");
            }
            Err(Unread::Read(e)) => self.mistake(path, format!("it cannot be read: {e}")),
            Err(Unread::Large) => {
                let message =
                    format!("this is larger than a configuration may be ({MAX_BUNDLE} bytes)");
                self.mistake(path, message);
            }
        }
    }

    fn read(&self, path: &str) -> Result<bundle::File, Unread> {
        // The kernel itself refuses links that leave config.d; NONBLOCK so that no pipe is waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file =
            openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(|e| match e {
                Errno::NXIO => Unread::Irregular,
                other => Unread::Open(other),
            })?;
        let file = File::from(file);
        let metadata = file.metadata().map_err(Unread::Read)?;
        if !metadata.is_file() {
            return Err(Unread::Irregular);
        }
        let mut bytes = Vec::new();
        file.take(MAX_BUNDLE as u64 + 1).read_to_end(&mut bytes).map_err(Unread::Read)?;
        if bytes.len() > MAX_BUNDLE {
            return Err(Unread::Large);
        }
        // As the administrator set it, but for what a umask of 002 adds: on a machine, a group of the
        // same number may be anybody's.
        Ok(bundle::File { mode: metadata.permissions().mode() & 0o755, bytes })
    }
}

/// Why a file was not read.
enum Unread {
    Open(Errno),
    Irregular,
    Read(io::Error),
    Large,
}

fn plain_name(name: &OsStr) -> Option<&str> {
    name.to_str().filter(|n| !n.contains(char::is_control))
}
