//! `gse-controller verify`: whether an installed tree is what its signed index says.

use std::{fmt, path::Path};

use anyhow::{Context as _, Result};
use gse_protocol::{Release, sign::Keys};

use super::{Slot, boot_report};
use crate::{
    disk::records::Records,
    install::{Compared, Limits, LocalTree, compare},
    kept::Kept,
    log::Log,
    report::Place,
};

/// Which slot is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// That of the running system.
    Running,
    /// BACKUPFS.
    Backup,
}

/// A tree that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The signed release.
    pub release: Release,
    /// What differs from its index.
    pub compared: Compared,
}

/// Compares the tree in a slot with its index, which is checked first.
///
/// # Errors
/// The controller did not start this system, somebody else than root asks, there is no such slot, or its records are
/// not what was signed.
pub fn verify(place: &Place, which: Which, log: &Log) -> Result<Verified> {
    let report = boot_report(place)?;
    let keys: Result<Vec<_>, _> = report.keys.iter().map(|key| key.parse()).collect();
    let keys = Keys(keys.context("the trusted keys that the controller left")?);
    let slot = match which {
        Which::Running => Slot::running(place, &report)?,
        Which::Backup => Slot::backup(&report)?,
    };
    tree(&slot.root(), &slot.folder(), &slot.records()?, &keys, log)
}

/// Compares the tree at `root` with the signed index in `records`, the folder `gse`.
///
/// # Errors
/// Records that are missing, or not what was signed by one of `keys`; a tree that cannot be opened.
pub fn tree(
    root: &Path,
    gse: &Path,
    records: &Records,
    keys: &Keys,
    log: &Log,
) -> Result<Verified> {
    let kept = Kept::open(records, keys)?;
    let (index, _) = kept.index()?;
    let tree = LocalTree::open(root, gse)?;
    let progress = |done, total| log.progress("verifying", done, total);
    let compared = compare(&index, &tree, Limits::default().cores.get(), &progress)?;
    Ok(Verified { release: kept.release, compared })
}

impl Verified {
    /// Whether nothing differs.
    pub fn is_whole(&self) -> bool {
        self.compared.differences.is_empty()
    }
}

/// A line for each difference, and one for all.
impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compared { entries, kept, differences } = &self.compared;
        for (path, difference) in differences {
            // What a name does to a terminal is not asked for.
            let path = String::from_utf8_lossy(path);
            writeln!(f, "/{}: {difference}", path.escape_debug())?;
        }
        let version = &self.release.version;
        write!(f, "version {version}: {entries} entries, ")?;
        match differences.len() {
            0 => f.write_str("as they were signed")?,
            1 => f.write_str("1 difference")?,
            more => write!(f, "{more} differences")?,
        }
        match kept {
            0 => Ok(()),
            kept => write!(
                f,
                " ({kept} changed by the configuration, compared by the image's own copies)"
            ),
        }
    }
}
