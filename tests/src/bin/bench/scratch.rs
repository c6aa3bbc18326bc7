//! Where measurements are made: a directory on a disk, swept however this ends.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gse_qemu::process::Broom;

/// A directory that goes with this, or with the process.
pub(crate) struct Scratch {
    dir: PathBuf,
    _broom: Broom,
}

impl Scratch {
    /// Makes one below `$GSE_TEST_DIR`, or `/var/tmp`: `/tmp` may be in memory.
    pub(crate) fn new() -> Result<Self> {
        let parent = std::env::var_os("GSE_TEST_DIR").map_or("/var/tmp".into(), PathBuf::from);
        let dir = tempfile::Builder::new().prefix("gse-bench-").tempdir_in(&parent);
        let dir = dir.with_context(|| format!("creating a directory in {}", parent.display()))?;
        let dir = dir.keep();
        let broom = Broom::new(&dir)?;
        Ok(Self { dir, _broom: broom })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}
