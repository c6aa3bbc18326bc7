//! The folder of states.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::{Sha256, release::is_safe_path};

use super::{
    Error, Inputs, Saved, State,
    format::{FORMAT, VERSION},
};
use crate::file_error::FileError;

/// In a state's folder.
pub(super) const FILE: &str = "state.toml";
/// In a state's folder: the copy of the configuration.
pub(super) const CONFIG: &str = "config.d";
/// In a state's folder: the copy of the directory of scripts.
pub(super) const SCRIPTS: &str = "scripts";

/// All states of a local directory.
#[derive(Debug, Clone)]
pub struct States {
    /// `local/states`
    pub folder: PathBuf,
}

impl States {
    /// Those of a local directory. The path is made absolute: a run starts where it was saved.
    ///
    /// # Errors
    /// If there is no current directory.
    pub fn of(local: &Path) -> Result<Self, Error> {
        let local = std::path::absolute(local).map_err(FileError::of("finding", local))?;
        Ok(Self { folder: local.join("states") })
    }

    /// Where a state is, or would be.
    ///
    /// # Errors
    /// If no state can have this name.
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        if !is_safe_path(name, 1) || name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::Name(name.to_owned()));
        }
        Ok(self.folder.join(name))
    }

    /// Names and states, the oldest first. Their numbers count from 1.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn list(&self) -> Result<Vec<(String, State)>, Error> {
        let listing = || FileError::of("listing", &self.folder);
        let folders = match fs::read_dir(&self.folder) {
            Ok(folders) => folders,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(listing()(e).into()),
        };
        let mut found = Vec::new();
        for folder in folders {
            let name = folder.map_err(listing())?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                let state = self.load(&name)?;
                found.push((name, state));
            }
        }
        found.sort_by(|(a, x), (b, y)| (x.saved, a).cmp(&(y.saved, b)));
        Ok(found)
    }

    /// The state of a number or name.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, wanted: &str) -> Result<(String, State), Error> {
        let all = self.list()?;
        let known = match all.as_slice() {
            [] => "none is saved yet, --time-state=NAME beside other flags does it".to_owned(),
            some => format!(
                "there are {}",
                some.iter()
                    .enumerate()
                    .map(|(i, (name, _))| format!("{} {name}", i + 1))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let number = wanted.parse::<usize>().ok();
        let found = all.into_iter().enumerate().find(|(i, (name, _))| match number {
            Some(number) => i + 1 == number,
            None => name == wanted,
        });
        found.map(|(_, found)| found).ok_or(Error::Unknown { wanted: wanted.to_owned(), known })
    }

    /// Deletes the state of a number or name, and gives its name.
    ///
    /// # Errors
    /// If there is none, or it cannot be removed.
    pub fn delete(&self, wanted: &str) -> Result<String, Error> {
        let (name, _) = self.find(wanted)?;
        let path = self.folder.join(&name);
        fs::remove_dir_all(&path).map_err(FileError::of("removing", &path))?;
        Ok(name)
    }

    fn load(&self, name: &str) -> Result<State, Error> {
        let path = self.folder.join(name).join(FILE);
        let text = fs::read_to_string(&path).map_err(FileError::of("reading", &path))?;
        let broken =
            |message: &str| Error::Broken { path: path.clone(), message: message.to_owned() };
        // The format first: what is in another one has other keys.
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| broken(e.message()))?;
        let format = table.get("format").and_then(toml::Value::as_integer);
        let format = format.and_then(|format| u32::try_from(format).ok());
        let format = format.ok_or_else(|| broken("it has no format"))?;
        if format != FORMAT {
            let version = table.get("gse").and_then(toml::Value::as_str).unwrap_or("(unknown)");
            return Err(Error::Format {
                name: name.to_owned(),
                version: version.to_owned(),
                format,
                this: VERSION,
                reads: FORMAT,
            });
        }
        toml::from_str(&text).map_err(|e| broken(e.message()))
    }

    /// The copies of a state, after a look whether everything is as it was saved.
    ///
    /// # Errors
    /// If anything was changed, is missing or was added.
    pub fn inputs(&self, name: &str, state: &State) -> Result<Inputs, Error> {
        let folder = self.folder.join(name);
        let mut wrong = Vec::new();
        let mut now = std::collections::BTreeMap::new();
        for below in [CONFIG, SCRIPTS] {
            read(&folder, below, &mut |path, mode, bytes| {
                now.insert(path, Saved { mode, sha256: Sha256::of(bytes) });
                Ok(())
            })?;
        }
        wrong.extend(state.files.iter().filter_map(|(path, saved)| match now.get(path) {
            None => Some(format!("{path} is missing")),
            Some(found) if found != saved => Some(format!("{path} was changed")),
            Some(_) => None,
        }));
        wrong.extend(
            now.keys().filter(|p| !state.files.contains_key(*p)).map(|p| format!("{p} was added")),
        );
        for (path, sha256) in &state.images {
            match fs::read(path) {
                Ok(bytes) if Sha256::of(&bytes) == *sha256 => {}
                Ok(_) => wrong.push(format!("{path} was changed")),
                Err(e) => wrong.push(format!("{path}: {e}")),
            }
        }
        if !wrong.is_empty() {
            return Err(Error::Changed { name: name.to_owned(), files: wrong });
        }
        let copied = |below: &str| Some(folder.join(below)).filter(|path| path.is_dir());
        Ok(Inputs { config: copied(CONFIG), scripts: copied(SCRIPTS) })
    }
}

/// What is done with each file: its path, with `/` between its parts, its mode, its content.
pub(super) type See<'a> = dyn FnMut(String, u32, &[u8]) -> Result<(), Error> + 'a;

/// Reads every file below `root/prefix`, if that is there. Links are followed: what counts is what a run reads.
pub(super) fn read(root: &Path, prefix: &str, see: &mut See<'_>) -> Result<(), Error> {
    let folder = root.join(prefix);
    if !folder.exists() {
        return Ok(());
    }
    let listing = || FileError::of("listing", &folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(listing())? {
        names.push(entry.map_err(listing())?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        let below = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let path = root.join(&below);
        let metadata = fs::metadata(&path).map_err(FileError::of("looking at", &path))?;
        if metadata.is_dir() {
            read(root, &below, see)?;
        } else if metadata.is_file() {
            let bytes = fs::read(&path).map_err(FileError::of("reading", &path))?;
            see(below, metadata.permissions().mode() & 0o7777, &bytes)?;
        }
    }
    Ok(())
}
