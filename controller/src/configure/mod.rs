//! Phase 7: the files, links and services of the configuration, put into the installed system.
//!
//! What the configuration wants ([`Desired`]) and what is known of the image ([`Image`]) are resolved to
//! things at paths ([`resolve`]); these are compared with what is there ([`plan`]). None of that writes
//! anything to the system; only if there is a change does [`run`] make it, or undo all of it.
//!
//! What the image had at such a path is kept in `.gse/pristine/`, so that what is taken out of the
//! configuration goes back to the image's own, and a clone stays verifiable.

mod image;
mod locale;
mod plan;
mod resolve;
mod run;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Result;
use gse_protocol::config::{
    bundle::File,
    system::{Desired, LOCALE_GEN},
};
use serde::{Deserialize, Serialize};

pub use self::{
    image::{Image, Init, Zone},
    plan::{Change, Left, Plan, PlanError, plan},
    resolve::{ResolveError, resolve},
    run::{PRISTINE, load, look, run},
};
use crate::log::Log;

/// How long making the locales may take: a locale takes seconds, all of them a quarter of an hour.
pub const LOCALES_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What the configuration has put into a system: `.gse/applied.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// Directories that were made, by path relative to the system's root; what lies in one comes after it.
    #[serde(default)]
    pub directory: Vec<String>,
    /// By path relative to the system's root.
    #[serde(default)]
    pub file: BTreeMap<String, AppliedFile>,
}

/// A file or link that was put there, or taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedFile {
    /// Whether the image had something at this path, which is kept.
    pub pristine: bool,
    /// Whether the image's own program made it, of the list of locales.
    #[serde(default)]
    pub generated: bool,
}

/// What can be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(OwnedFile),
    /// A symbolic link, and what it says.
    Link(String),
}

/// A file with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFile {
    /// Permissions and content.
    pub file: File,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// A directory that has to be there. One that is there already stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Permissions.
    pub mode: u32,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Default for Directory {
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// A thing that is to be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Relative to the system's root.
    pub path: String,
    /// What.
    pub thing: Thing,
    /// Whether it takes the place of what the image has there.
    pub force: bool,
}

/// All that is to be in a system, each at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Files and links.
    pub things: Vec<Wanted>,
    /// Directories, such as those on which something is mounted, by path relative to the system's root.
    pub directories: Vec<(String, Directory)>,
    /// What was made of the list of locales, if it was made anew.
    pub generated: Option<Vec<Wanted>>,
}

/// What is at a path in the system now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// Something that the configuration can put there too.
    Is(Thing),
    /// A directory, which is never replaced.
    Directory,
    /// A node, or a link to no name in UTF-8.
    Other,
}

/// What is in the system now, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Now {
    /// Each path relative to the system's root, and what is there.
    pub at: Vec<(String, Current)>,
    /// Those of the paths that are masked: the machine's own.
    pub masked: Vec<String>,
}

/// Brings the system at `root`, whose records are in `gse`, to what the configuration wants. `mount_points`
/// are directories that must be there. What is left alone comes back, for a person to read.
///
/// # Errors
/// What is wanted and cannot be had. The system is then as it was before.
pub fn bring(
    root: &Path,
    gse: &Path,
    desired: &Desired,
    mount_points: &[String],
    log: &Log,
) -> Result<Vec<String>> {
    let before = load(gse)?;
    let (mut wishes, notes) = resolve(desired, &Image::read(root, desired)?)?;
    notes.iter().for_each(|note| log.warn(note));
    for point in mount_points {
        wishes.directories.push((point.clone(), Directory::default()));
    }
    let mut now = look(root, &wishes, &before)?;
    let mut plan = plan(&wishes, &before, &now)?;
    if let Some(list) = plan.writes(LOCALE_GEN) {
        wishes.generated = locale::generate(root, &list.file.bytes, LOCALES_LIMIT, log)?;
        now = look(root, &wishes, &before)?;
        plan = self::plan(&wishes, &before, &now)?;
    }
    let left: Vec<String> = plan.left.iter().map(ToString::to_string).collect();
    if !left.is_empty() {
        log.info(format_args!("left alone: {}", left.join(", ")));
    }
    if plan.changes.is_empty() {
        log.debug("the system has its configuration already");
        return Ok(left);
    }
    log.info(format_args!("applying the configuration ({} changes)", plan.changes.len()));
    run(root, gse, &plan.changes, &before, &plan.after, log)?;
    Ok(left)
}
