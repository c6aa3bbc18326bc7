//! Where a build keeps what it works with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders and files below the local directory.
///
/// They are not below `dist.d`: what lies there is served to whoever asks, and a tree has its shadow passwords in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Logs, states, downloads, the tree.
    pub local: PathBuf,
    /// The tree that becomes the system.
    pub tree: PathBuf,
    /// What was fetched.
    pub downloads: PathBuf,
    /// What belongs to this build alone; locked while it runs.
    pub own: PathBuf,
    /// Which scripts were asked for.
    pub doscripts: PathBuf,
}

impl Places {
    /// Those of a base, after whose name they are called. `local` is made absolute.
    ///
    /// # Errors
    /// If the folders cannot be made.
    pub fn make(local: &Path, base: &str) -> io::Result<Self> {
        fs::create_dir_all(local)?;
        let local = local.canonicalize()?;
        let places = Self {
            tree: local.join(format!("workdir-{base}")),
            downloads: local.join("downloads"),
            own: local.join(base),
            doscripts: local.join("doscripts"),
            local,
        };
        fs::create_dir_all(&places.downloads)?;
        fs::create_dir_all(&places.own)?;
        Ok(places)
    }

    /// How far the build is.
    pub fn state(&self) -> PathBuf {
        self.own.join("state.toml")
    }

    /// What was printed.
    pub fn logs(&self) -> PathBuf {
        self.own.join("log")
    }
}
