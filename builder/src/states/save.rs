//! `--time-state=NAME`: saves a run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::Sha256;

use super::{
    Error, Saved, State, States,
    format::{FORMAT, VERSION},
    store::{CONFIG, FILE, SCRIPTS, read},
};
use crate::file_error::FileError;

/// A run, as it is about to begin.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The arguments without the program's name and `--time-state`, written out.
    pub arguments: Vec<String>,
    /// Where it is started.
    pub directory: PathBuf,
    /// The configuration that it reads, if there is one.
    pub config: Option<PathBuf>,
    /// The directory of scripts.
    pub scripts: Option<PathBuf>,
    /// Files that count by their content, but are not copied.
    pub images: Vec<PathBuf>,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// `SOURCE_DATE_EPOCH`, or now.
    pub epoch: u64,
}

/// Saves a run under a name, in one piece. The same run under the same name again is left as it is.
///
/// # Errors
/// If another run has the name, or something cannot be read or written.
pub fn save(states: &States, name: &str, run: &Run) -> Result<(), Error> {
    let target = states.path(name)?;
    fs::create_dir_all(&states.folder).map_err(FileError::of("making", &states.folder))?;
    let work = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&states.folder)
        .map_err(FileError::of("making a folder in", &states.folder))?;
    let state = fill(work.path(), run)?;
    if target.exists() {
        let (_, there) = states.find(name)?;
        if there.is_same_run(&state) {
            return Ok(());
        }
        return Err(Error::Exists { name: name.to_owned() });
    }
    write(&work.path().join(FILE), &state)?;
    fs::rename(work.path(), &target).map_err(FileError::of("renaming", &target))?;
    // It has another name now, so there is nothing to remove.
    let _ = work.keep();
    Ok(())
}

fn fill(work: &Path, run: &Run) -> Result<State, Error> {
    let mut state = State {
        format: FORMAT,
        gse: VERSION.to_owned(),
        saved: run.now,
        epoch: run.epoch,
        directory: run.directory.clone(),
        arguments: run.arguments.clone(),
        files: Default::default(),
        images: Default::default(),
    };
    for (from, below) in [(&run.config, CONFIG), (&run.scripts, SCRIPTS)] {
        let Some(from) = from else { continue };
        let to = work.join(below);
        fs::create_dir(&to).map_err(FileError::of("making", &to))?;
        read(from, "", &mut |path, mode, bytes| {
            copy(&to.join(&path), mode, bytes)?;
            state
                .files
                .insert(format!("{below}/{path}"), Saved { mode, sha256: Sha256::of(bytes) });
            Ok(())
        })?;
    }
    for image in &run.images {
        let path = run.directory.join(image);
        let bytes = fs::read(&path).map_err(FileError::of("reading", &path))?;
        state.images.insert(path.display().to_string(), Sha256::of(&bytes));
    }
    Ok(state)
}

/// Writes a file with its permissions, and makes the folders above it.
pub(super) fn copy(to: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let written = || {
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(to, bytes)?;
        fs::set_permissions(to, fs::Permissions::from_mode(mode))
    };
    Ok(written().map_err(FileError::of("writing", to))?)
}

/// Writes `state.toml`.
pub(super) fn write(path: &Path, state: &State) -> Result<(), Error> {
    let text = toml::to_string(state).map_err(std::io::Error::other);
    Ok(text.and_then(|text| fs::write(path, text)).map_err(FileError::of("writing", path))?)
}
