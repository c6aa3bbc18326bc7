//! How the filesystems of slots, BOOTFS and USERDATAFS are mounted, and labels of what is mounted.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gse_protocol::config::drives::{Filesystem, Role};
use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
    },
};

use super::slots::{Label, Place, Slot, SlotState};
use crate::{
    log::Log,
    mount::{self, MountFlags, Mounted},
    sys::block,
};

/// The subvolume that holds a system on btrfs.
pub const ROOT_SUBVOLUME: &str = "@";

/// Whether something may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may not.
    ReadOnly,
    /// It may.
    ReadWrite,
}

/// Why a filesystem could not be mounted or relabelled.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is nothing to mount.
    #[error("{} cannot be mounted: it holds {holds}", .device.display())]
    Nothing {
        /// The partition.
        device: PathBuf,
        /// What it holds.
        holds: String,
    },
    /// The mount.
    #[error(transparent)]
    Mount(#[from] mount::MountError),
    /// The label.
    #[error("changing the label of what is mounted on {} to {label}: {source}", .target.display())]
    Label {
        /// Where it is mounted.
        target: PathBuf,
        /// The new label.
        label: Label,
        /// The system's reason.
        source: io::Error,
    },
}

/// What nobody starts programs from, or finds devices in.
const INERT: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOATIME);

fn flags(access: Access) -> MountFlags {
    match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    }
}

/// Mounts the top of a filesystem, where `.gse` is: the top-level subvolume of btrfs, and the filesystem
/// itself of the others.
///
/// # Errors
/// Those of the kernel.
pub fn mount_top<'l>(
    device: &Path,
    filesystem: Filesystem,
    target: &Path,
    access: Access,
    log: &'l Log,
) -> Result<Mounted<'l>, MountError> {
    // Without it, btrfs mounts whatever subvolume somebody made the default.
    let data = if filesystem == Filesystem::Btrfs { "subvolid=5" } else { "" };
    let flags = flags(access) | INERT;
    Ok(Mounted::new(device, target, &filesystem.to_string(), flags, data, log)?)
}

/// The top of a filesystem, read-only, without a place in the tree of mounts: it is reached by its descriptor, and goes
/// with it. So it is in nobody's way, and nothing that is mounted over it is seen.
///
/// # Errors
/// Those of the kernel (`EBUSY`: it is mounted for writing; `ENOSYS`: it is older than Linux 5.2).
pub fn detached_top(device: &Path, filesystem: Filesystem) -> Result<OwnedFd, MountError> {
    let mount = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen(filesystem.to_string().as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", device)?;
        if filesystem == Filesystem::Btrfs {
            fsconfig_set_string(&context, "subvolid", "5")?;
        }
        fsconfig_set_flag(&context, "ro")?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    mount().map_err(|e| {
        MountError::Mount(mount::MountError::Mount {
            what: device.to_owned(),
            fstype: filesystem.to_string(),
            target: PathBuf::from("a descriptor"),
            source: e.into(),
        })
    })
}

/// The top of the filesystem that holds the running system at `root`, as [`detached_top`]. `device` is its partition.
///
/// # Errors
/// Those of the kernel.
pub fn detached_root(
    root: &Path,
    device: &Path,
    filesystem: Filesystem,
) -> Result<OwnedFd, MountError> {
    if filesystem == Filesystem::Btrfs {
        // The root is but a subvolume of it.
        return detached_top(device, filesystem);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, root, flags).map_err(|e| {
        MountError::Mount(mount::MountError::Place {
            doing: "binding",
            from: root.to_owned(),
            to: PathBuf::from("a descriptor"),
            source: e.into(),
        })
    })
}

/// Mounts BOOTFS or USERDATAFS, whose files are at the top of the filesystem. Neither has devices or
/// setuid programs; users may keep programs of their own in USERDATAFS.
///
/// # Errors
/// A filesystem of a type that the controller does not make, and those of the kernel.
pub fn mount_place<'l>(
    place: &Place,
    target: &Path,
    access: Access,
    log: &'l Log,
) -> Result<Mounted<'l>, MountError> {
    let holds = place.filesystem.as_ref();
    if let Some(info) = holds.filter(|info| place.role == Role::Boot && info.kind == VFAT) {
        return mount_boot(&place.device, &info.kind, target, access, log);
    }
    let filesystem =
        holds.and_then(|info| info.filesystem()).ok_or_else(|| MountError::Nothing {
            device: place.device.clone(),
            holds: holds.map_or_else(|| "nothing yet".to_owned(), ToString::to_string),
        })?;
    mount_top(&place.device, filesystem, target, access, log)
}

/// Where the system of a slot is whose top is at `top`.
pub fn root_below(top: &Path, filesystem: Filesystem) -> PathBuf {
    match filesystem {
        Filesystem::Btrfs => top.join(ROOT_SUBVOLUME),
        Filesystem::Ext4 | Filesystem::Xfs => top.to_owned(),
    }
}

/// What firmware reads: BOOTFS may be the machine's EFI partition.
pub const VFAT: &str = "vfat";

/// Mounts BOOTFS, of whatever type it is. vfat has no owners and modes, so what is there is root's.
///
/// # Errors
/// Those of the kernel.
pub fn mount_boot<'l>(
    device: &Path,
    kind: &str,
    target: &Path,
    access: Access,
    log: &'l Log,
) -> Result<Mounted<'l>, MountError> {
    let data = if kind == VFAT { "umask=0077,quiet" } else { "" };
    Ok(Mounted::new(device, target, kind, flags(access) | INERT, data, log)?)
}

/// A slot whose top is mounted. Mounting costs more than all that is done with the mount, so there is
/// one for a whole boot; whether it can be written is changed in place.
pub struct OpenSlot<'l> {
    device: PathBuf,
    filesystem: Filesystem,
    top: Mounted<'l>,
    log: &'l Log,
}

impl<'l> OpenSlot<'l> {
    /// Mounts the top of a slot on `target`, which is made where it is missing.
    ///
    /// # Errors
    /// A slot without a filesystem, and those of the kernel.
    pub fn new(
        slot: &Slot,
        target: &Path,
        access: Access,
        log: &'l Log,
    ) -> Result<Self, MountError> {
        let nothing = |holds: &str| MountError::Nothing {
            device: slot.device.clone(),
            holds: holds.to_owned(),
        };
        let filesystem = match &slot.state {
            SlotState::Formatted { filesystem, .. } => *filesystem,
            SlotState::Blank => return Err(nothing("nothing yet")),
            SlotState::Foreign(what) => return Err(nothing(what)),
        };
        let top = mount_top(&slot.device, filesystem, target, access, log)?;
        Ok(Self { device: slot.device.clone(), filesystem, top, log })
    }

    /// Its partition.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Its filesystem.
    pub fn filesystem(&self) -> Filesystem {
        self.filesystem
    }

    /// Where its records are.
    pub fn top(&self) -> &Path {
        self.top.path()
    }

    /// Where its system is, for its files to be read and changed: devices and setuid programs are none here.
    pub fn root(&self) -> PathBuf {
        root_below(self.top(), self.filesystem)
    }

    /// Makes the whole filesystem writable, or read-only and everything in it safe on the disk.
    ///
    /// # Errors
    /// Those of the kernel: a damaged filesystem may be readable alone.
    pub fn set_access(&mut self, access: Access) -> Result<(), MountError> {
        Ok(mount::remount(self.top.path(), flags(access) | INERT)?)
    }

    /// Mounts the system read-only on `target`, with device nodes and setuid programs as it has them. The
    /// filesystem must be read-only by now: it can only be the one or the other.
    ///
    /// # Errors
    /// Those of the kernel (`ENOENT`: there is no `@`).
    pub fn mount_root(&self, target: &Path) -> Result<Mounted<'l>, MountError> {
        let subvolume = format!("subvol={ROOT_SUBVOLUME}");
        let data = if self.filesystem == Filesystem::Btrfs { subvolume.as_str() } else { "" };
        let kind = self.filesystem.to_string();
        Ok(Mounted::new(&self.device, target, &kind, MountFlags::RDONLY, data, self.log)?)
    }

    /// Gives the filesystem another label, and leaves it read-only.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn relabel(&mut self, to: Label) -> Result<(), MountError> {
        self.set_access(Access::ReadWrite)?;
        set_label(self.top(), to)?;
        self.set_access(Access::ReadOnly)
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// Mostly that something still uses it.
    pub fn close(self) -> Result<(), MountError> {
        Ok(self.top.unmount()?)
    }
}

/// Gives the mounted filesystem that `target` is on another label, checks it, and waits until it is on
/// the disk.
///
/// ext4 can do this from Linux 5.17 on.
///
/// # Errors
/// `EROFS` on a read-only mount (remount it first), and those of the kernel.
pub fn set_label(target: &Path, label: Label) -> Result<(), MountError> {
    let relabel = || -> io::Result<()> {
        let folder = File::open(target)?;
        block::set_label(&folder, label.as_str())?;
        let now = block::label(&folder)?;
        if now != label.as_str().as_bytes() {
            let now = String::from_utf8_lossy(&now).into_owned();
            return Err(io::Error::other(format!("it is {now:?} afterwards")));
        }
        nix::unistd::syncfs(&folder)?;
        Ok(())
    };
    relabel().map_err(|source| MountError::Label { target: target.to_owned(), label, source })
}
