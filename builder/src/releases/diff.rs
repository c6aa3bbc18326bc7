//! `--diff OLD NEW`: two versions beside each other.

use std::{collections::BTreeMap, fmt};

use gse_protocol::{Index, index::Entry};
use indicatif::BinaryBytes;
use serde::Serialize;

use super::{Change, Error, Published, Store, compare, packages};
use crate::archive::IMAGE;

/// How two versions differ.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The first one.
    pub old: Published,
    /// The second one.
    pub new: Published,
    /// Packages that differ, by name.
    pub packages: Vec<Change>,
    /// How the trees differ.
    pub files: Totals,
}

/// How many entries of a tree are new, gone or other than they were; directories count too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Only in the new one.
    pub new: u64,
    /// Only in the old one.
    pub gone: u64,
    /// In both, with another type or content.
    pub content: u64,
    /// In both, with another owner, mode, time or extended attribute alone.
    pub metadata: u64,
}

/// Compares two versions that are published.
///
/// # Errors
/// If one is not there or cannot be read.
pub fn diff(store: &Store, old: &str, new: &str) -> Result<Difference, Error> {
    let (old, new) = (store.find(old)?, store.find(new)?);
    let (before, after) = (store.index(&old.folder)?, store.index(&new.folder)?);
    let of =
        |image: &Published, index| packages(&store.dist.join(&image.folder).join(IMAGE), index);
    let packages = compare(&of(&old, &before)?, &of(&new, &after)?);
    Ok(Difference { files: totals(&before, &after), packages, old, new })
}

fn totals(old: &Index, new: &Index) -> Totals {
    let before: BTreeMap<&[u8], &Entry> =
        old.entries.iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    let mut totals = Totals::default();
    let mut both = 0;
    for entry in &new.entries {
        let Some(earlier) = before.get(entry.path.as_slice()) else {
            totals.new += 1;
            continue;
        };
        both += 1;
        if !same_content(earlier, entry) {
            totals.content += 1;
        } else if (earlier.mode, earlier.uid, earlier.gid, &earlier.mtime, &earlier.xattrs)
            != (entry.mode, entry.uid, entry.gid, &entry.mtime, &entry.xattrs)
        {
            totals.metadata += 1;
        }
    }
    totals.gone = (before.len() as u64).saturating_sub(both);
    totals
}

/// Where the content lies in the image is of no matter.
fn same_content(a: &Entry, b: &Entry) -> bool {
    use gse_protocol::index::Kind::File;
    match (&a.kind, &b.kind) {
        (File(a), File(b)) => (a.size, a.sha256, &a.extents) == (b.size, b.sha256, &b.extents),
        (a, b) => a == b,
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, packages, files } = self;
        writeln!(f, "{} {} -> {} {}", old.name, old.version, new.name, new.version)?;
        let sizes =
            |what, old, new| format!("{what}: {} -> {}", BinaryBytes(old), BinaryBytes(new));
        writeln!(f, "  {}", sizes("packed", old.packed, new.packed))?;
        writeln!(f, "  {}", sizes("installed", old.installed, new.installed))?;
        writeln!(
            f,
            "  files: {} new, {} gone, {} with other content, {} with other owner, mode or time",
            files.new, files.gone, files.content, files.metadata
        )?;
        write!(f, "  packages:{}", if packages.is_empty() { " the same" } else { "" })?;
        packages.iter().try_for_each(|change| write!(f, "\n    {change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.old, &self.new) {
            (None, Some(new)) => write!(f, "+ {name} {new}")?,
            (Some(old), None) => write!(f, "- {name} {old}")?,
            (old, new) => {
                let (old, new) = (old.as_deref().unwrap_or("?"), new.as_deref().unwrap_or("?"));
                write!(f, "  {name} {old} -> {new}")?;
            }
        }
        let sign = if self.grew < 0 { '-' } else { '+' };
        match self.grew {
            0 => Ok(()),
            grew => write!(f, " ({sign}{})", BinaryBytes(grew.unsigned_abs())),
        }
    }
}
