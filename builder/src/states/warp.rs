//! `--time-warp=N` and `--edit=N`: runs a state again, and changes one.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use gse_protocol::Sha256;

use super::{
    Error, Saved, State, States,
    format::VERSION,
    rewritten,
    save::{copy, write},
    store::{CONFIG, FILE, SCRIPTS, read},
};
use crate::{
    build::config_tree::System,
    cli::{self, Asked, Cli},
    editor,
    file_error::FileError,
};

/// Becomes the run of a state: the answer is only why it did not.
pub(super) fn warp(states: &States, wanted: &str) -> Result<io::Error, Error> {
    let (name, state) = states.find(wanted)?;
    let inputs = states.inputs(&name, &state)?;
    let cli = understand(&name, &state)?;
    let taken = |version: &str| {
        state.directory.join(&cli.dist).join(format!("images/{}-{version}", cli.name)).exists()
    };
    let version = cli.version.as_deref().filter(|version| taken(version));
    let version = version.map(|version| free(version, &taken));
    let arguments = rewritten(&state.arguments, &inputs, version.as_deref());
    if state.gse != VERSION {
        eprintln!(
            "gse: the state {name} was saved by gse {}, and this is gse {VERSION}: what comes out may differ",
            state.gse
        );
    }
    if let Some(version) = &version {
        eprintln!("gse: that version is published already, so this one is called {version}");
    }
    Ok(Command::new("/proc/self/exe")
        .args(arguments)
        .current_dir(&state.directory)
        .env("SOURCE_DATE_EPOCH", state.epoch.to_string())
        .exec())
}

fn understand(name: &str, state: &State) -> Result<Cli, Error> {
    let wrong = |message: String| Error::Flags {
        name: name.to_owned(),
        version: state.gse.clone(),
        this: VERSION,
        message,
    };
    let words = ["gse"].into_iter().chain(state.arguments.iter().map(String::as_str));
    match cli::read(words.map(Into::into)) {
        Ok(Asked::Run(cli)) => Ok(*cli),
        Ok(_) => Err(wrong("they ask for help".to_owned())),
        Err(e) => Err(wrong(e.to_string())),
    }
}

/// The first of `V+2`, `V+3`, … that is not taken.
fn free(version: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let names = (2_u64..).map(|n| format!("{version}+{n}"));
    names.into_iter().find(|name| !taken(name)).unwrap_or_default()
}

/// Opens the configuration of a state in the editor, and takes over what comes out if it has no mistakes.
pub(super) fn edit(states: &States, wanted: &str) -> Result<String, Error> {
    let (name, mut state) = states.find(wanted)?;
    let folder = states.folder.join(&name);
    states.inputs(&name, &state)?;
    let work = tempfile::Builder::new()
        .prefix(".edit-")
        .tempdir_in(&states.folder)
        .map_err(FileError::of("making a folder in", &states.folder))?;
    let copy = work.path().join(&name);
    copy_tree(&folder, &copy)?;
    let files: Vec<PathBuf> = state.files.keys().map(PathBuf::from).collect();
    editor::edit(&copy, &files)?;
    if copy.join(CONFIG).join("system").is_dir() {
        let checked = System::load(&copy.join(CONFIG));
        checked.map_err(|source| Error::Edited { name: name.clone(), source })?;
    }
    state.files.clear();
    for below in [CONFIG, SCRIPTS] {
        read(&copy, below, &mut |path, mode, bytes| {
            state.files.insert(path, Saved { mode, sha256: Sha256::of(bytes) });
            Ok(())
        })?;
    }
    write(&copy.join(FILE), &state)?;
    // Two renames: in between, the old one is in the folder that goes away with `work`.
    fs::rename(&folder, work.path().join("old")).map_err(FileError::of("renaming", &folder))?;
    fs::rename(&copy, &folder).map_err(FileError::of("renaming", &folder))?;
    Ok(name)
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(FileError::of("making", to))?;
    read(from, "", &mut |path, mode, bytes| copy(&to.join(path), mode, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_taken_gets_the_next_number() {
        let taken = |version: &str| ["1", "1+2", "1+3"].contains(&version);
        assert_eq!(free("1", &taken), "1+4");
    }
}
