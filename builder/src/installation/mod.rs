//! `--health-check` and `--replace-new`: the files that `make install` put here.
//!
//! `make install` leaves a manifest as sha256sum(1) writes it, with paths below the prefix. The default configuration is
//! installed twice: once to be edited, in `lib64/gse/config.d`, and once to be put back, in `share/gse/config.d`.

mod command;
mod flags;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use gse_protocol::Sha256;
use serde::Serialize;

use crate::file_error::FileError;

pub use command::command;
pub use flags::Flags;

/// Below the prefix.
const MANIFEST: &str = "lib64/gse/manifest";
/// Below the prefix: the configuration, which administrators edit.
const CONFIG: &str = "lib64/gse/config.d";
/// Below the prefix: the configuration as it came.
const PRISTINE: &str = "share/gse/config.d";

/// Why an installation cannot be looked at or mended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not made by `make install`.
    #[error("there is no {0}: gse does not run from where `make install` or a package has put it")]
    NotInstalled(PathBuf),
    /// A manifest that cannot be read.
    #[error("{path}, line {line}, is no line of sha256sum: install gse again")]
    Manifest {
        /// Of the manifest.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How many files were looked at.
    pub files: usize,
    /// Files that are not what was installed.
    pub changed: Vec<PathBuf>,
    /// Files that are gone.
    pub missing: Vec<PathBuf>,
    /// Files of the configuration that somebody edited or removed, which is what they are for.
    pub edited: Vec<PathBuf>,
}

/// An installation below a prefix, such as `/usr`.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Where `bin` is.
    pub prefix: PathBuf,
}

impl Installation {
    /// The one that this program belongs to.
    ///
    /// # Errors
    /// If it belongs to none.
    pub fn of_this_program() -> Result<Self, Error> {
        let program = env::current_exe().map_err(FileError::of("finding", "/proc/self/exe"))?;
        let prefix = program.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned();
        let manifest = prefix.join(MANIFEST);
        if manifest.exists() { Ok(Self { prefix }) } else { Err(Error::NotInstalled(manifest)) }
    }

    /// Compares every file with the manifest.
    ///
    /// # Errors
    /// If the manifest or a file cannot be read.
    pub fn check(&self) -> Result<Health, Error> {
        let path = self.prefix.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(FileError::of("reading", &path))?;
        let mut health = Health::default();
        for (n, line) in text.lines().enumerate() {
            let (digest, name) =
                parse(line).ok_or_else(|| Error::Manifest { path: path.clone(), line: n + 1 })?;
            health.files += 1;
            let file = self.prefix.join(name);
            let found = match fs::read(&file) {
                Ok(bytes) => Some(Sha256::of(&bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(FileError::of("reading", file)(e).into()),
            };
            match found {
                Some(found) if found == digest => {}
                _ if name.starts_with(CONFIG) => health.edited.push(file),
                Some(_) => health.changed.push(file),
                None => health.missing.push(file),
            }
        }
        Ok(health)
    }

    /// Puts the default configuration back. If the present one differs, it is renamed, and its new name is the answer.
    ///
    /// # Errors
    /// If it cannot be written; what was there then has its old name or its new one.
    pub fn replace(&self, now: u64) -> Result<Option<PathBuf>, Error> {
        let (config, pristine) = (self.prefix.join(CONFIG), self.prefix.join(PRISTINE));
        let wanted = files(&pristine)?;
        let there = if config.exists() { files(&config)? } else { Vec::new() };
        if there == wanted {
            return Ok(None);
        }
        let new = self.prefix.join(format!("{CONFIG}.new-{now}"));
        for (name, bytes) in &wanted {
            let to = new.join(name);
            to.parent().map_or(Ok(()), fs::create_dir_all).map_err(FileError::of("making", &to))?;
            fs::write(&to, bytes).map_err(FileError::of("writing", &to))?;
        }
        let aside = self.prefix.join(format!("{CONFIG}.{now}"));
        if config.exists() {
            fs::rename(&config, &aside).map_err(FileError::of("renaming", &config))?;
        }
        fs::rename(&new, &config).map_err(FileError::of("renaming", &new))?;
        Ok(Some(aside))
    }
}

/// As `sha256sum` writes it: the digest, two spaces, the path.
fn parse(line: &str) -> Option<(Sha256, &str)> {
    let (digest, name) = line.split_once("  ")?;
    Some((digest.parse().ok()?, name))
}

/// Every file below a folder with its content, by its path in it, sorted.
fn files(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).map_err(FileError::of("listing", &path))? {
            let entry = entry.map_err(FileError::of("listing", &path))?.path();
            if entry.is_dir() {
                waiting.push(entry);
            } else {
                let bytes = fs::read(&entry).map_err(FileError::of("reading", &entry))?;
                found.push((entry.strip_prefix(folder).unwrap_or(&entry).to_owned(), bytes));
            }
        }
    }
    found.sort();
    Ok(found)
}
