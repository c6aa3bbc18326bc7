//! What can go wrong with saved runs.

use std::path::PathBuf;

use crate::{build, editor, file_error::FileError};

/// Why a state was not saved, changed or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that is no file's name.
    #[error(
        "{0:?} is no name for a state: use letters, digits and . _ + ~ -, and no digits alone, which are numbers of states"
    )]
    Name(String),
    /// Another state has the name.
    #[error(
        "there is a state {name} already, of another run or another configuration: gse --time-state=-{name} deletes it"
    )]
    Exists {
        /// Of both.
        name: String,
    },
    /// No such state.
    #[error("there is no state {wanted}: {known}")]
    Unknown {
        /// As it was given.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// A file that [`super::State`] did not write.
    #[error("{path} is no state: {message}; delete its folder, and save the run again")]
    Broken {
        /// Of `state.toml`.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Made by a gse that keeps states otherwise.
    #[error(
        "the state {name} was saved by gse {version} in format {format}, and gse {this} reads format {reads}: run it with gse {version}, \
         or save it again with this one"
    )]
    Format {
        /// Of the state.
        name: String,
        /// Of the gse that saved it.
        version: String,
        /// Of its `state.toml`.
        format: u32,
        /// Of this gse.
        this: &'static str,
        /// Of this gse.
        reads: u32,
    },
    /// A copy or an image is not what was saved.
    #[error(
        "the state {name} is not as it was saved:{}\nput these back, or save the run again",
        lines(.files)
    )]
    Changed {
        /// Of the state.
        name: String,
        /// What differs.
        files: Vec<String>,
    },
    /// Flags that this gse does not have.
    #[error(
        "the state {name} was saved by gse {version}, and gse {this} does not understand its flags: {message}"
    )]
    Flags {
        /// Of the state.
        name: String,
        /// Of the gse that saved it.
        version: String,
        /// Of this gse.
        this: &'static str,
        /// What is wrong.
        message: String,
    },
    /// An argument that is no text.
    #[error("the argument {0:?} is no UTF-8 text, so it cannot be saved")]
    Argument(std::ffi::OsString),
    /// The edited configuration.
    #[error("the state {name} stays as it was, because what was edited has mistakes")]
    Edited {
        /// Of the state.
        name: String,
        /// What is wrong.
        source: build::config_tree::Error,
    },
    /// The editor.
    #[error(transparent)]
    Editor(#[from] editor::Error),
}

fn lines(files: &[String]) -> String {
    files.iter().map(|file| format!("\n  {file}")).collect()
}
