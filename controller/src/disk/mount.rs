//! Mounts that undo themselves, and labels of what is mounted.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use gse_protocol::config::drives::Filesystem;
use sys_mount::{MountFlags, UnmountFlags};

use super::slots::{Label, Place, Slot, SlotState};
use crate::{log::Log, sys::block};

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
    #[error("mounting {} ({filesystem}) on {}: {source} (the kernel log may say more)", .device.display(), .target.display())]
    Mount {
        /// The partition.
        device: PathBuf,
        /// Its filesystem.
        filesystem: Filesystem,
        /// Where to.
        target: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The unmount.
    #[error("unmounting {}: {source} (does a program still use it?)", .target.display())]
    Unmount {
        /// What was mounted there.
        target: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
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

/// A mount that ends when it is dropped.
pub struct Mounted<'l> {
    target: PathBuf,
    log: &'l Log,
    /// Nothing is left to do on drop.
    done: bool,
}

impl<'l> Mounted<'l> {
    /// Mounts a filesystem on `target`, which is created where it is missing.
    ///
    /// `data` are options of the filesystem, such as `subvol=@`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn new(
        device: &Path,
        filesystem: Filesystem,
        target: &Path,
        flags: MountFlags,
        data: Option<&str>,
        log: &'l Log,
    ) -> Result<Self, MountError> {
        let failed = |source| MountError::Mount {
            device: device.to_owned(),
            filesystem,
            target: target.to_owned(),
            source,
        };
        fs::create_dir_all(target).map_err(failed)?;
        let kind = filesystem.to_string();
        let mut builder = sys_mount::Mount::builder().fstype(kind.as_str()).flags(flags);
        if let Some(data) = data {
            builder = builder.data(data);
        }
        builder.mount(device, target).map_err(failed)?;
        Ok(Self { target: target.to_owned(), log, done: false })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Leaves it mounted for good.
    pub fn keep(mut self) -> PathBuf {
        self.done = true;
        std::mem::take(&mut self.target)
    }

    /// Unmounts it, and says if that failed.
    ///
    /// # Errors
    /// Mostly that something still uses it.
    pub fn unmount(mut self) -> Result<(), MountError> {
        self.done = true;
        unmount(&self.target)
            .map_err(|source| MountError::Unmount { target: self.target.clone(), source })
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Err(e) = unmount(&self.target) {
            self.log.warn(format_args!("unmounting {}: {e}", self.target.display()));
        }
    }
}

/// Unmounts, and tries again for a second while the mount is in use.
///
/// A process that another thread is just forking has a copy of every descriptor of this one until it
/// executes its program, so a mount can be busy though nobody who uses it is left.
fn unmount(target: &Path) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..200 {
        match sys_mount::unmount(target, UnmountFlags::empty()) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => thread::sleep(PAUSE),
            other => return other,
        }
    }
    sys_mount::unmount(target, UnmountFlags::empty())
}

fn flags(access: Access) -> MountFlags {
    match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    }
}

/// What nobody starts programs from, or finds devices in.
const INERT: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOATIME);

fn slot_filesystem(slot: &Slot) -> Result<Filesystem, MountError> {
    let nothing =
        |holds: &str| MountError::Nothing { device: slot.device.clone(), holds: holds.to_owned() };
    match &slot.state {
        SlotState::Formatted { filesystem, .. } => Ok(*filesystem),
        SlotState::Blank => Err(nothing("nothing yet")),
        SlotState::Foreign(what) => Err(nothing(what)),
    }
}

/// The top of a filesystem, where its `.gse` is.
fn mount_top<'l>(
    device: &Path,
    filesystem: Filesystem,
    target: &Path,
    access: Access,
    log: &'l Log,
) -> Result<Mounted<'l>, MountError> {
    // Without it, btrfs mounts whatever subvolume somebody made the default.
    let data = (filesystem == Filesystem::Btrfs).then_some("subvolid=5");
    Mounted::new(device, filesystem, target, flags(access) | INERT, data, log)
}

/// Mounts the top of a slot, where its records are: the top-level subvolume of btrfs, and the
/// filesystem itself of the others.
///
/// # Errors
/// A slot without a filesystem, and those of the kernel.
pub fn mount_slot_top<'l>(
    slot: &Slot,
    target: &Path,
    access: Access,
    log: &'l Log,
) -> Result<Mounted<'l>, MountError> {
    mount_top(&slot.device, slot_filesystem(slot)?, target, access, log)
}

/// Mounts the system of a slot, with device nodes and setuid programs as it has them: subvolume `@` of
/// btrfs, and the filesystem itself of the others.
///
/// # Errors
/// A slot without a filesystem, and those of the kernel (`ENOENT`: there is no `@`).
pub fn mount_slot_root<'l>(
    slot: &Slot,
    target: &Path,
    access: Access,
    log: &'l Log,
) -> Result<Mounted<'l>, MountError> {
    let filesystem = slot_filesystem(slot)?;
    let subvolume = format!("subvol={ROOT_SUBVOLUME}");
    let data = (filesystem == Filesystem::Btrfs).then_some(subvolume.as_str());
    Mounted::new(&slot.device, filesystem, target, flags(access), data, log)
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
    let filesystem =
        holds.and_then(|info| info.filesystem()).ok_or_else(|| MountError::Nothing {
            device: place.device.clone(),
            holds: holds.map_or_else(|| "nothing yet".to_owned(), ToString::to_string),
        })?;
    mount_top(&place.device, filesystem, target, access, log)
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

/// Gives a slot that is not mounted another label, by mounting its top on `scratch` for a moment.
///
/// # Errors
/// A slot without a filesystem, and those of the kernel.
pub fn relabel(slot: &mut Slot, to: Label, scratch: &Path, log: &Log) -> Result<(), MountError> {
    let mounted = mount_slot_top(slot, scratch, Access::ReadWrite, log)?;
    set_label(mounted.path(), to)?;
    mounted.unmount()?;
    if let SlotState::Formatted { label, .. } = &mut slot.state {
        *label = Some(to);
    }
    Ok(())
}
