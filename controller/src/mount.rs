//! Mounts, with errors that say what was being mounted where, and where the controller mounts things.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
pub use rustix::mount::UnmountFlags;
use rustix::mount::{
    MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change, mount_move,
    mount_remount, unmount as umount2,
};
pub use sys_mount::MountFlags;

use crate::log::Log;

/// Where things are mounted for a moment.
pub const SCRATCH: &str = "/run/gse/scratch";
/// Each slot that was looked into is mounted in here, under its number.
pub const SLOTS: &str = "/run/gse/slots";
/// Where a tmpfs is filled before it covers the image's directory.
pub const STAGE: &str = "/run/gse/stage";
/// Where archives of BOOTFS wait whose signatures have been checked.
pub const ARCHIVES: &str = "/run/gse/archives";
/// Where BOOTFS is mounted while a log is written.
pub const LOGS: &str = "/run/gse/logs";
/// Where the root of the chosen system waits until it is mounted at [`NEW_ROOT`].
pub const READY: &str = "/run/gse/root";
/// Where the real root is mounted until it is the root.
pub const NEW_ROOT: &str = "/sysroot";

/// What could not be done with a mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount.
    #[error("mounting {} ({fstype}) on {}: {source} (the kernel log may say more)", .what.display(), .target.display())]
    Mount {
        /// The partition, or the name of a filesystem without one.
        what: PathBuf,
        /// The type of the filesystem.
        fstype: String,
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
    /// Other flags for a mount.
    #[error("remounting {}: {source}", .target.display())]
    Remount {
        /// What is mounted there.
        target: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A mount or directory at another place.
    #[error("{doing} {} to {}: {source}", .from.display(), .to.display())]
    Place {
        /// `moving the mount` or `binding`.
        doing: &'static str,
        /// Where it is.
        from: PathBuf,
        /// Where it should be.
        to: PathBuf,
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
    /// As [`mount`].
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn new(
        what: &Path,
        target: &Path,
        fstype: &str,
        flags: MountFlags,
        data: &str,
        log: &'l Log,
    ) -> Result<Self, MountError> {
        mount(what, target, fstype, flags, data)?;
        Ok(Self { target: target.to_owned(), log, done: false })
    }

    /// Makes the directory `from` appear at `target` too, without what is mounted below it, as a mount with flags of its
    /// own. `target` is made where it is missing.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn bind(from: &Path, target: &Path, log: &'l Log) -> Result<Self, MountError> {
        let bound = match fs::create_dir_all(target) {
            Ok(()) => mount_bind(from, target),
            Err(e) => Err(rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO)),
        };
        bound.map_err(place("binding", from, target))?;
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
        unmount_idle(&self.target)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Err(e) = unmount_idle(&self.target) {
            self.log.warn(e);
        }
    }
}

/// Mounts `what` at `target`, which is made where it is missing. `data` are options of the filesystem, such
/// as `subvol=@`.
///
/// # Errors
/// Those of the kernel.
pub fn mount(
    what: &Path,
    target: &Path,
    fstype: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), MountError> {
    let failed = |source| MountError::Mount {
        what: what.to_owned(),
        fstype: fstype.to_owned(),
        target: target.to_owned(),
        source,
    };
    fs::create_dir_all(target).map_err(failed)?;
    sys_mount::Mount::builder()
        .fstype(fstype)
        .flags(flags)
        .data(data)
        .mount(what, target)
        .map(drop)
        .map_err(failed)
}

/// The flags among the words that mount(8) takes, and the others, which are for the filesystem.
pub fn options(words: &str) -> (MountFlags, String) {
    let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            // What is so anyway.
            "rw" | "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// The flags of a mount that a bind of it is not to lose.
pub fn kept_by_binds() -> MountFlags {
    MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME
        | MountFlags::NODIRATIME
}

/// Mounts a kernel filesystem, such as `proc`, unless something is mounted there already.
///
/// # Errors
/// Those of the kernel.
pub fn mount_virtual(
    fstype: &str,
    target: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), MountError> {
    let target = Path::new(target);
    if is_mount_point(target) {
        return Ok(());
    }
    mount(Path::new(fstype), target, fstype, flags, data)
}

/// Takes a mount out of sight of other mount namespaces, and what will be mounted below it.
///
/// # Errors
/// Those of the kernel.
pub fn make_private(target: &Path) -> Result<(), MountError> {
    mount_change(target, MountPropagationFlags::PRIVATE)
        .map_err(|e| MountError::Remount { target: target.to_owned(), source: e.into() })
}

/// From here on, what this thread and those that it starts mount is seen by nobody else, and ends with them. It cannot be
/// had back.
///
/// # Errors
/// Those of the kernel.
pub fn keep_to_this_thread() -> Result<(), MountError> {
    let failed = |source| MountError::Remount { target: PathBuf::from("/"), source };
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).map_err(|e| failed(e.into()))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| failed(e.into()))
}

/// Moves the mount at `from` to `to`.
///
/// # Errors
/// Those of the kernel.
pub fn move_to(from: &Path, to: &Path) -> Result<(), MountError> {
    mount_move(from, to).map_err(place("moving the mount", from, to))
}

/// Makes the directory `from` appear at `to` too.
///
/// # Errors
/// Those of the kernel.
pub fn bind(from: &Path, to: &Path) -> Result<(), MountError> {
    mount_bind_recursive(from, to).map_err(place("binding", from, to))
}

fn place(
    doing: &'static str,
    from: &Path,
    to: &Path,
) -> impl Fn(rustix::io::Errno) -> MountError + use<> {
    let (from, to) = (from.to_owned(), to.to_owned());
    move |e| MountError::Place { doing, from: from.clone(), to: to.clone(), source: e.into() }
}

/// Changes the flags of the mount at `target`, and whether its filesystem is read-only, as
/// `mount -o remount,ro` does.
///
/// # Errors
/// `EBUSY` if a file is still open for writing where nothing may be written any more, for longer than a second.
pub fn remount(target: &Path, flags: MountFlags) -> Result<(), MountError> {
    let bits =
        rustix::mount::MountFlags::from_bits_retain(u32::try_from(flags.bits()).unwrap_or(0));
    when_idle(|| mount_remount(target, bits, ""))
        .map_err(|e| MountError::Remount { target: target.to_owned(), source: e.into() })
}

/// Unmounts `target`.
///
/// # Errors
/// `EBUSY` while it is in use.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    umount2(target, flags)
        .map_err(|e| MountError::Unmount { target: target.to_owned(), source: e.into() })
}

/// Unmounts, once the mount is not in use any more.
fn unmount_idle(target: &Path) -> Result<(), MountError> {
    when_idle(|| umount2(target, UnmountFlags::empty()))
        .map_err(|e| MountError::Unmount { target: target.to_owned(), source: e.into() })
}

/// Does something to a mount, and tries again for a second while that is in use.
///
/// A process that another thread is just forking has a copy of every descriptor of this one until it
/// executes its program, so a mount can be busy though nobody who uses it is left.
fn when_idle(change: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..200 {
        match change() {
            Err(rustix::io::Errno::BUSY) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    change()
}

/// Whether `path` is on another filesystem than the directory that it lies in.
pub fn is_mount_point(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// All mount points, in the order in which they were mounted.
pub fn mount_points() -> Vec<PathBuf> {
    parse_mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Unmounts everything at and below `target`, the last mounted first, even where it is in use.
///
/// # Errors
/// Those of the kernel.
pub fn detach_below(target: &Path) -> Result<(), MountError> {
    for point in mount_points().iter().rev().filter(|p| p.starts_with(target)) {
        unmount(point, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The fifth field of each line, in which the kernel writes white space in octal:
/// <https://docs.kernel.org/filesystems/proc.html#proc-pid-mountinfo>.
fn parse_mountinfo(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| {
            let mut plain = path.to_owned();
            for (escaped, c) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            {
                plain = plain.replace(escaped, c);
            }
            PathBuf::from(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    #[test]
    fn every_option_of_a_bind_is_a_flag() {
        for word in gse_protocol::config::mounts::FLAGS {
            let (flags, data) = super::options(word);
            assert!(!flags.is_empty() && data.is_empty(), "{word}");
        }
        let (flags, data) = super::options("rw,noatime,compress=zstd:3,,vers=4.1");
        assert_eq!(
            (flags, data.as_str()),
            (super::MountFlags::NOATIME, "compress=zstd:3,vers=4.1")
        );
    }

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let text = "22 1 0:21 / /proc rw,nosuid - proc proc rw\n\
                    30 1 0:30 / /mnt/a\\040b rw - tmpfs none rw\nbroken\n";
        let expected = [PathBuf::from("/proc"), PathBuf::from("/mnt/a b")];
        assert_eq!(super::parse_mountinfo(text), expected);
    }
}
