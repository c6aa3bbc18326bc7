//! Paths inside a mounted system, whose links are followed as if that system's root were `/`.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2},
    io::Errno,
};

use crate::files;

/// A directory inside a root, held open, and a name in it. The name itself is not followed.
#[derive(Debug)]
pub struct Inside {
    parent: OwnedFd,
    name: OsString,
}

impl Inside {
    /// Finds the directory in which `path` lies; none if that is missing.
    pub fn find(root: &Path, path: &str) -> Result<Option<Self>> {
        let (parent, name) = split(path)?;
        let found = open_directory(root, parent)?;
        Ok(found.map(|parent| Self { parent, name: name.to_owned() }))
    }

    /// As [`Inside::find`], and makes the directories that are missing, for everyone to read.
    pub fn make(root: &Path, path: &str) -> Result<Self> {
        let (parent, name) = split(path)?;
        Ok(Self { parent: make_directory(root, parent)?, name: name.to_owned() })
    }

    /// A path by which this process reaches the name.
    pub fn path(&self) -> PathBuf {
        self.beside(&self.name)
    }

    /// A path by which this process reaches another name in the same directory.
    pub fn beside(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(name)
    }

    /// The name.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Makes changes to the directory last.
    pub fn sync(&self) -> std::io::Result<()> {
        let dir = rustix::fs::openat(
            &self.parent,
            ".",
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(rustix::fs::fsync(&dir)?)
    }
}

/// Opens the directory `path` inside `root`; none if it is missing.
pub fn open_directory(root: &Path, path: &Path) -> Result<Option<OwnedFd>> {
    let base = open_root(root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(&base, dotted(path), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => {
            Err(e).with_context(|| format!("opening {} in {}", path.display(), root.display()))
        }
    }
}

/// The content of the file `path` inside `root`, whose links are all followed; none if it is missing.
pub fn read(root: &Path, path: &Path) -> Result<Option<Vec<u8>>> {
    let reading = || format!("reading {} in {}", path.display(), root.display());
    // NONBLOCK so that no pipe is waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat2(open_root(root)?, dotted(path), flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let mut file = match file {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(e).with_context(reading),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(reading)?;
    Ok(Some(bytes))
}

/// The names in the directory `path` inside `root`; none where there is no such directory.
pub fn list(root: &Path, path: &str) -> Result<Option<Vec<String>>> {
    let Some(dir) = open_directory(root, Path::new(path))? else { return Ok(None) };
    let reach = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    let names = files::names(&reach);
    names.map(Some).with_context(|| format!("listing /{path} of the image"))
}

/// Opens the directory `path` inside `root`, making what is missing.
pub fn make_directory(root: &Path, path: &Path) -> Result<OwnedFd> {
    let mut sofar = PathBuf::new();
    let mut dir = open_root(root)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        sofar.push(name);
        dir = match open_directory(root, &sofar)? {
            Some(next) => next,
            None => {
                let what =
                    || format!("making the directory {} in {}", sofar.display(), root.display());
                mkdirat(&dir, name, Mode::from_raw_mode(0o755)).with_context(what)?;
                open_directory(root, &sofar)?.with_context(what)?
            }
        };
    }
    Ok(dir)
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, root, flags, Mode::empty())
        .with_context(|| format!("opening {}", root.display()))
}

fn dotted(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn split(path: &str) -> Result<(&Path, &OsStr)> {
    let path = Path::new(path);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => bail!("{} is no path of a file", path.display()),
    }
}
