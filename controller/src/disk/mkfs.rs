//! Making filesystems.

use std::path::{Path, PathBuf};

use gse_protocol::config::drives::{Filesystem, Subvolume};

use super::{
    mount::{self, Access, MountError, ROOT_SUBVOLUME},
    slots::Label,
    subvolumes,
    tools::{ToolError, Tools},
    wipeable::{NotWipeable, Wipeable},
};
use crate::log::{Log, reason};

/// What a filesystem is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec<'s> {
    /// Its type.
    pub filesystem: Filesystem,
    /// Its label.
    pub label: Label,
    /// Further words for mkfs.
    pub options: &'s [String],
    /// With btrfs: subvolumes beside `@`.
    pub subvolumes: &'s [Subvolume],
}

/// Why there is no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum MkfsError {
    /// The partition may not be formatted.
    #[error(transparent)]
    Refused(#[from] NotWipeable),
    /// mkfs.
    #[error("making a filesystem on {}: {source}", .device.display())]
    Tool {
        /// The partition.
        device: PathBuf,
        /// What went wrong.
        source: ToolError,
    },
    /// Mounting it to make subvolumes.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A subvolume.
    #[error("making subvolume {name} on {}: {error}", .device.display())]
    Subvolume {
        /// The partition.
        device: PathBuf,
        /// The subvolume.
        name: String,
        /// The reason.
        error: String,
    },
}

/// Formats a partition. Nothing is mounted afterwards; `scratch` is a folder to mount on meanwhile.
///
/// A slot on btrfs gets subvolume `@` and those of the configuration; BOOTFS and USERDATAFS get the
/// latter alone, as boot loaders and people look for files at the top.
///
/// # Errors
/// A partition that holds something after all, a program that is missing or fails.
pub fn make(
    target: Wipeable,
    spec: &Spec<'_>,
    scratch: &Path,
    tools: &Tools,
    log: &Log,
) -> Result<(), MkfsError> {
    target.check(spec.label)?;
    let device = target.device();
    let (program, mut words) = command(spec);
    words.push(device.to_string_lossy().into_owned());
    tools
        .run(program, &words, log)
        .map_err(|source| MkfsError::Tool { device: device.to_owned(), source })?;
    if spec.filesystem == Filesystem::Btrfs {
        let root = target.is_slot().then_some(ROOT_SUBVOLUME);
        let top = mount::mount_top(device, spec.filesystem, scratch, Access::ReadWrite, log)?;
        for name in root.into_iter().chain(spec.subvolumes.iter().map(|s| s.name.as_str())) {
            subvolumes::ensure(&top.path().join(name)).map_err(|e| MkfsError::Subvolume {
                device: device.to_owned(),
                name: name.to_owned(),
                error: reason(&e),
            })?;
        }
        top.unmount().map_err(MountError::from)?;
    }
    Ok(())
}

/// The program that makes this filesystem.
pub fn program(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Btrfs => "mkfs.btrfs",
        Filesystem::Ext4 => "mkfs.ext4",
        Filesystem::Xfs => "mkfs.xfs",
    }
}

/// The program and its words, the device excepted.
///
/// No discard: some USB bridges and old SSDs take minutes over it, during which a machine seems dead.
/// Who wants it runs `fstrim` in the system.
fn command(spec: &Spec<'_>) -> (&'static str, Vec<String>) {
    let words: &[&str] = match spec.filesystem {
        Filesystem::Btrfs | Filesystem::Xfs => &["-f", "-q", "-K"],
        // The inode tables are checksummed as unused, so zeroing them can wait. The journal is not: a
        // stale block in it could be replayed after a power cut (mke2fs(8), lazy_journal_init).
        Filesystem::Ext4 => &["-F", "-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=0"],
    };
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    words.extend(["-L".to_owned(), spec.label.to_string()]);
    words.extend(spec.options.iter().cloned());
    (program(spec.filesystem), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_fits_every_filesystem() {
        // XFS has the shortest: 12 bytes (ext4 16, btrfs 255).
        assert!(Label::ALL.iter().all(|label| label.as_str().len() <= 12));
    }

    #[test]
    fn configured_options_come_after_our_own() {
        let options = ["-n".to_owned(), "65536".to_owned()];
        let spec = Spec {
            filesystem: Filesystem::Btrfs,
            label: Label::Incoming,
            options: &options,
            subvolumes: &[],
        };
        let (program, words) = command(&spec);
        assert_eq!(program, "mkfs.btrfs");
        assert_eq!(words.join(" "), "-f -q -K -L INCOMING -n 65536");
    }
}
