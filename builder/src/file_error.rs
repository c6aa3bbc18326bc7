//! A file that could not be read or written.

use std::{io, path::PathBuf};

/// What was being done, to what, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub struct FileError {
    /// A gerund, such as "reading".
    pub doing: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: adds what was being done, and to what.
    pub fn of(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { doing, path, source }
    }
}
