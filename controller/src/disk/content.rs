//! What a device holds, by the signatures on it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use gse_protocol::config::drives::Filesystem;
use libblkid_rs::{BlkidErr, BlkidProbe, BlkidSafeprobeRet, BlkidSublks, BlkidSublksFlags};

/// A filesystem, or another superblock such as that of LVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// As libblkid names it: `btrfs`, `ext4`, `vfat`, `LVM2_member`.
    pub kind: String,
    /// Its label, where it has one in UTF-8.
    pub label: Option<String>,
    /// Its UUID as text, in the form that is usual for the kind.
    pub uuid: Option<String>,
}

impl FsInfo {
    /// The type, if it is one that slots can have.
    pub fn filesystem(&self) -> Option<Filesystem> {
        match self.kind.as_str() {
            "btrfs" => Some(Filesystem::Btrfs),
            "ext4" => Some(Filesystem::Ext4),
            "xfs" => Some(Filesystem::Xfs),
            _ => None,
        }
    }
}

impl fmt::Display for FsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match &self.label {
            Some(label) => write!(f, " with label {label:?}"),
            None => Ok(()),
        }
    }
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No signature that libblkid knows.
    Blank,
    /// One filesystem.
    Filesystem(FsInfo),
    /// A partition table, as libblkid names it: `gpt`, `PMBR`, `dos`.
    Table(String),
    /// More than one of them, or unreadable: the sentence says which.
    Unclear(String),
}

/// Why a device could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Two signatures, of which neither is certain.
    #[error(
        "{} has the signatures of more than one filesystem: `wipefs {}` lists them, and `wipefs \
         --offset` removes the stale one",
        .0.display(), .0.display()
    )]
    Ambivalent(PathBuf),
    /// A partition table and a filesystem at once.
    #[error(
        "{} has both a partition table ({table}) and a filesystem ({filesystem}): `wipefs {}` lists \
         the signatures, and `wipefs --offset` removes the stale one",
        .device.display(), .device.display()
    )]
    Both {
        /// The device.
        device: PathBuf,
        /// The table's kind.
        table: String,
        /// The filesystem.
        filesystem: FsInfo,
    },
    /// Reading it failed.
    #[error("looking for signatures on {}: {error}", .device.display())]
    Library {
        /// The device.
        device: PathBuf,
        /// What libblkid says.
        error: String,
    },
}

/// The one filesystem on a device or in a file, or none.
///
/// # Errors
/// A device that cannot be read, and one with the signatures of several filesystems.
pub fn filesystem(device: &Path) -> Result<Option<FsInfo>, ProbeError> {
    match probe(device, false)? {
        Content::Filesystem(info) => Ok(Some(info)),
        _ => Ok(None),
    }
}

/// What a device holds, partition tables included; for whole disks.
///
/// # Errors
/// A device that cannot be read.
pub fn content(device: &Path) -> Result<Content, ProbeError> {
    match probe(device, true) {
        Err(error @ (ProbeError::Ambivalent(_) | ProbeError::Both { .. })) => {
            Ok(Content::Unclear(error.to_string()))
        }
        other => other,
    }
}

fn probe(device: &Path, tables: bool) -> Result<Content, ProbeError> {
    let failed = |error: BlkidErr| ProbeError::Library {
        device: device.to_owned(),
        // libblkid returns -1 and leaves the reason in errno, which is not kept.
        error: match error {
            BlkidErr::LibErr(_) => "it cannot be opened or read (kernel log?)".to_owned(),
            other => other.to_string(),
        },
    };
    let mut probe = BlkidProbe::new_from_filename(device).map_err(failed)?;
    let wanted = vec![BlkidSublks::Label, BlkidSublks::Uuid, BlkidSublks::Type];
    probe.enable_superblocks(true).map_err(failed)?;
    probe.set_superblock_flags(BlkidSublksFlags::new(wanted)).map_err(failed)?;
    probe.enable_partitions(tables).map_err(failed)?;
    match probe.do_safeprobe().map_err(failed)? {
        BlkidSafeprobeRet::None => return Ok(Content::Blank),
        BlkidSafeprobeRet::Ambiguous => return Err(ProbeError::Ambivalent(device.to_owned())),
        BlkidSafeprobeRet::Success => {}
    }
    // A value that is missing and one that is no UTF-8 (a label of some other system) are both none
    // of ours.
    let value = |name| probe.lookup_value(name).ok();
    let found = value("TYPE").map(|kind| FsInfo {
        kind,
        label: value("LABEL").filter(|label| !label.is_empty()),
        uuid: value("UUID"),
    });
    Ok(match (found, value("PTTYPE")) {
        (Some(filesystem), Some(table)) => {
            return Err(ProbeError::Both { device: device.to_owned(), table, filesystem });
        }
        (Some(info), None) => Content::Filesystem(info),
        (None, Some(table)) => Content::Table(table),
        (None, None) => Content::Blank,
    })
}
