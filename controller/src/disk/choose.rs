//! Which disk each `[[disk]]` of `drives.toml` means. Zero, one and many are three answers.

use std::path::PathBuf;

use gse_protocol::config::{
    drives::{Disk, Drives, Match, Role},
    machines::wild,
};

use super::{
    Bytes,
    probe::{BlockDevice, Partition},
    slots,
};

/// Why it is not certain which disk is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The machine has no disk at all.
    #[error(
        "this machine has no disk that the controller can see: is one connected, and is its driver \
         in the controller's image?"
    )]
    NoDisks,
    /// No disk fits.
    #[error("no disk fits {wanted} of controller/drives.toml: {}", .refused.join("; "))]
    NoneFits {
        /// What is asked for.
        wanted: String,
        /// Each disk with the reason why it does not fit.
        refused: Vec<String>,
    },
    /// Several fit.
    #[error(
        "{} disks fit {wanted} of controller/drives.toml: {}. Name one there, by path, serial, model \
         or size",
        .fitting.len(), .fitting.join("; ")
    )]
    Many {
        /// What is asked for.
        wanted: String,
        /// The disks.
        fitting: Vec<String>,
    },
    /// Two entries mean the same disk.
    #[error(
        "two [[disk]] entries of controller/drives.toml mean {}: put its partitions into one of them",
        .0.display()
    )]
    SameDisk(PathBuf),
    /// A partition name is there twice.
    #[error(
        "{} and {} are both called {name}: disconnect one of the disks, or rename the partition that \
         is not meant (`sgdisk -c NUMBER:NAME DISK`)",
        .first.display(), .second.display()
    )]
    Twice {
        /// The name in the partition table.
        name: &'static str,
        /// One partition.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// The entries that have a disk, each with it, in their order.
pub(super) fn choose<'d>(
    drives: &'d Drives,
    disks: &'d [BlockDevice],
) -> Result<Vec<(&'d Disk, &'d BlockDevice)>, ChoiceError> {
    let mut chosen: Vec<(&Disk, &BlockDevice)> = Vec::new();
    for entry in &drives.disk {
        let disk = match choose_one(entry, disks) {
            Err(ChoiceError::NoDisks | ChoiceError::NoneFits { .. }) if entry.optional => continue,
            found => found?,
        };
        if chosen.iter().any(|(_, other)| other.path == disk.path) {
            return Err(ChoiceError::SameDisk(disk.path.clone()));
        }
        chosen.push((entry, disk));
    }
    let roles: Vec<Role> = drives.disk.iter().flat_map(|d| &d.partition).map(|p| p.label).collect();
    let all: Vec<&BlockDevice> = chosen.iter().map(|(_, disk)| *disk).collect();
    check_names(&roles, &all)?;
    Ok(chosen)
}

fn choose_one<'d>(entry: &Disk, disks: &'d [BlockDevice]) -> Result<&'d BlockDevice, ChoiceError> {
    if disks.is_empty() {
        return Err(ChoiceError::NoDisks);
    }
    let wanted = || describe(&entry.matches);
    let mut fitting: Vec<_> =
        disks.iter().filter(|d| misfit(&entry.matches, d).is_none()).collect();
    // A system that somebody brought along is not to stop a machine that has one.
    let own = |disk: &&BlockDevice| !disk.usb && slots::has_ours(disk);
    if is_unnamed(&entry.matches) && fitting.iter().any(own) {
        fitting.retain(|disk| !disk.usb);
    }
    let roles: Vec<Role> = entry.partition.iter().map(|p| p.label).collect();
    match fitting.as_slice() {
        [] => Err(ChoiceError::NoneFits {
            wanted: wanted(),
            refused: disks
                .iter()
                .filter_map(|d| Some(format!("{} ({})", d.describe(), misfit(&entry.matches, d)?)))
                .collect(),
        }),
        [disk] => Ok(disk),
        many => {
            // A machine that is set up stays the machine that it is when somebody plugs in another
            // disk: the one that has our partitions is meant.
            check_names(&roles, many)?;
            let ours: Vec<_> = many.iter().filter(|d| has_any(&roles, d)).collect();
            match ours.as_slice() {
                [disk] => Ok(disk),
                _ => Err(ChoiceError::Many {
                    wanted: wanted(),
                    fitting: many.iter().map(|d| d.describe()).collect(),
                }),
            }
        }
    }
}

/// Whether the machine has a disk to be installed on. What somebody may have brought along is none, unless an entry means it.
pub fn has_disk(drives: &Drives, disks: &[BlockDevice]) -> bool {
    let means = |entry: &Disk, disk| misfit(&entry.matches, disk).is_none();
    disks.iter().any(|disk| !disk.is_portable() || drives.disk.iter().any(|e| means(e, disk)))
}

fn has_any(roles: &[Role], disk: &BlockDevice) -> bool {
    roles.iter().any(|role| named(disk, *role).next().is_some())
}

/// The partitions of a disk that have the role's name in the table.
pub(super) fn named(disk: &BlockDevice, role: Role) -> impl Iterator<Item = &Partition> {
    let name = role.partition_name();
    disk.partitions.iter().filter(move |p| p.gpt.as_ref().is_some_and(|g| g.name == name))
}

fn check_names(roles: &[Role], disks: &[&BlockDevice]) -> Result<(), ChoiceError> {
    for role in roles {
        let mut found =
            disks.iter().flat_map(|disk| named(disk, *role).map(|p| disk.partition_path(p.number)));
        if let (Some(first), Some(second)) = (found.next(), found.next()) {
            return Err(ChoiceError::Twice { name: role.partition_name(), first, second });
        }
    }
    Ok(())
}

/// Why a disk is not the one, or none if it is.
fn misfit(wanted: &Match, disk: &BlockDevice) -> Option<String> {
    let text = |what: &str, pattern: &Option<String>, value: Option<&str>| {
        let pattern = pattern.as_deref()?;
        match value {
            Some(value) if wild(pattern, value) => None,
            Some(_) => Some(format!("its {what} is not {pattern}")),
            None => Some(format!("it has no {what}")),
        }
    };
    if is_unnamed(wanted) {
        let why = match disk {
            BlockDevice { removable: true, .. } => "removable disks have to be named",
            BlockDevice { usb: true, .. } if !slots::has_ours(disk) => {
                "a disk on USB may be anybody's, and has to be named where nothing of ours is on it yet"
            }
            _ => return None,
        };
        return Some(format!("{why}: if it is the one, write {} below [[disk]]", name(disk)));
    }
    let is_path = |pattern: &String| match pattern.strip_prefix("/dev/disk/by-id/") {
        Some(pattern) => disk.ids.iter().any(|id| wild(pattern, id)),
        None => disk.path.to_str().is_some_and(|path| wild(pattern, path)),
    };
    let other_path = wanted.path.as_ref().filter(|pattern| !is_path(pattern));
    let by_path = other_path.map(|pattern| match disk.ids.as_slice() {
        ids @ [_, ..] if pattern.starts_with("/dev/disk/") => {
            format!("its path is not {pattern}: by id it is {}", ids.join(" or "))
        }
        _ => format!("its path is not {pattern}"),
    });
    by_path
        .or_else(|| text("serial", &wanted.serial, disk.serial.as_deref()))
        .or_else(|| text("model", &wanted.model, disk.model.as_deref()))
        .or_else(|| {
            let least = wanted.min_size.filter(|least| disk.size < least.0)?;
            Some(format!("smaller than {}", Bytes(least.0)))
        })
        .or_else(|| {
            let most = wanted.max_size.filter(|most| disk.size > most.0)?;
            Some(format!("larger than {}", Bytes(most.0)))
        })
}

/// Whether an entry is content with whatever disk the machine has.
fn is_unnamed(wanted: &Match) -> bool {
    *wanted == Match::default()
}

/// The line of `drives.toml` that means this disk.
fn name(disk: &BlockDevice) -> String {
    match (disk.ids.first(), &disk.serial) {
        (Some(id), _) => format!("match.path = \"/dev/disk/by-id/{id}\""),
        (None, Some(serial)) => format!("match.serial = \"{serial}\""),
        (None, None) => format!("match.path = \"{}\"", disk.path.display()),
    }
}

fn describe(wanted: &Match) -> String {
    let Match { path, serial, model, min_size, max_size } = wanted;
    let mut words: Vec<String> = [("path", path), ("serial", serial), ("model", model)]
        .into_iter()
        .filter_map(|(what, value)| Some(format!("{what} {}", value.as_ref()?)))
        .collect();
    words.extend(min_size.map(|s| format!("at least {}", Bytes(s.0))));
    words.extend(max_size.map(|s| format!("at most {}", Bytes(s.0))));
    if words.is_empty() {
        return "the [[disk]] without a match".to_owned();
    }
    format!("the [[disk]] with {}", words.join(", "))
}
