//! `--diff OLD NEW`: two versions beside each other.

use std::{fmt, fs};

use gse_protocol::delta;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::{Change, Error, Published, Store, compare, packages};
use crate::{
    archive::{IMAGE, INDEX},
    patch,
};

/// How two versions differ.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The first one.
    pub old: Published,
    /// The second one.
    pub new: Published,
    /// Packages that differ, by name.
    pub packages: Vec<Change>,
    /// How the trees differ, and what machines fetch for it.
    pub files: patch::Difference,
    /// Bytes of what machines with the first one fetch of the second one's index: the whole, or what makes it out of theirs.
    pub index: u64,
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
    let folder = store.dist.join(&new.folder);
    let sizes = [delta::name(&old.version), INDEX.to_owned()].map(|name| folder.join(name));
    let index = sizes.iter().find_map(|path| Some(fs::metadata(path).ok()?.len()));
    let index = index.unwrap_or_default();
    Ok(Difference { files: patch::Difference::new(&before, &after), index, packages, old, new })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, packages, files, index } = self;
        writeln!(f, "{} {} -> {} {}", old.name, old.version, new.name, new.version)?;
        let sizes =
            |what, old, new| format!("{what}: {} -> {}", BinaryBytes(old), BinaryBytes(new));
        writeln!(f, "  {}", sizes("packed", old.packed, new.packed))?;
        writeln!(f, "  {}", sizes("installed", old.installed, new.installed))?;
        files.to_string().lines().try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "  of the index, machines with the older image fetch {}", BinaryBytes(*index))?;
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
