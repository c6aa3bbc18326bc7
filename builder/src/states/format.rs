//! `state.toml`.

use std::{collections::BTreeMap, path::PathBuf};

use gse_protocol::Sha256;
use serde::{Deserialize, Serialize};

use crate::build::run::quoted;

/// Of the file.
pub(super) const FORMAT: u32 = 1;
/// Of this gse.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A saved run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Of this file.
    pub format: u32,
    /// Of the gse that saved it.
    pub gse: String,
    /// When it was saved, in seconds since 1970.
    pub saved: u64,
    /// What every run of it takes for the time (`SOURCE_DATE_EPOCH`).
    pub epoch: u64,
    /// Where it was started, against which relative paths count.
    pub directory: PathBuf,
    /// The flags and arguments, without the program's name and `--time-state`.
    pub arguments: Vec<String>,
    /// Copies, by their path in the state's folder.
    #[serde(default)]
    pub files: BTreeMap<String, Saved>,
    /// Files that are too large to be copied, such as a kernel, by their path on this machine.
    #[serde(default)]
    pub images: BTreeMap<String, Sha256>,
}

/// A copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Its permissions.
    pub mode: u32,
    /// Of its content.
    pub sha256: Sha256,
}

impl State {
    /// Whether a run of `other` would be the same as one of this.
    pub fn is_same_run(&self, other: &Self) -> bool {
        (&self.directory, &self.arguments, &self.files, &self.images)
            == (&other.directory, &other.arguments, &other.files, &other.images)
    }

    /// The flags, as a shell reads them.
    pub fn line(&self) -> String {
        self.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}
