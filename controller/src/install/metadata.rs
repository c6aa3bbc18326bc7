//! Owners, modes, extended attributes and times.
//!
//! The order matters: a change of owner clears setuid, setgid and file capabilities, and everything
//! moves the time. The root user's own files are the common case, so what is right already is not
//! set again.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use gse_protocol::index::{Entry, Time};
use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod,
        chownat, fchmod, fchown, fsetxattr, futimens, lsetxattr, openat, utimensat,
    },
    process::{getegid, geteuid},
};

use super::InstallError;

/// What an error says was being done.
pub(super) const SET_XATTR: &str = "set an extended attribute of";

/// setuid, setgid and sticky
const SPECIAL: u32 = 0o7000;

/// Sets the metadata of what this process made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metadata {
    uid: u32,
    gid: u32,
}

impl Metadata {
    pub(super) fn new() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// The mode to make an entry with, under a umask of 0. Nobody can run or change what is setuid
    /// before it is complete.
    pub(super) fn first_mode(entry: &Entry) -> Mode {
        if entry.mode & SPECIAL == 0 { Mode::from_raw_mode(entry.mode) } else { Mode::RUSR }
    }

    /// Of an open file or directory that was made with [`Metadata::first_mode`].
    pub(super) fn finish(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), InstallError> {
        let at = |doing| InstallError::system(doing, &entry.path);
        if let Some((uid, gid)) = self.owner(entry) {
            fchown(fd, Some(uid), Some(gid)).map_err(at("set the owner of"))?;
        }
        if entry.mode & SPECIAL != 0 {
            fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(at("set the mode of"))?;
        }
        for xattr in &entry.xattrs {
            fsetxattr(fd, &*xattr.name, &xattr.value, XattrFlags::empty())
                .map_err(at(SET_XATTR))?;
        }
        futimens(fd, &times(entry.mtime)).map_err(at("set the time of"))
    }

    /// Makes an open directory that was there before as if it had just been made for this entry.
    pub(super) fn take_over(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), InstallError> {
        let at = |doing| InstallError::system(doing, &entry.path);
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        fchown(fd, Some(uid), Some(gid)).map_err(at("set the owner of"))?;
        fchmod(fd, Self::first_mode(entry)).map_err(at("set the mode of"))
    }

    /// Of a node that must not be opened: a link, a device, a pipe.
    pub(super) fn finish_node(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        is_link: bool,
    ) -> Result<(), InstallError> {
        let at = |doing| InstallError::system(doing, &entry.path);
        if let Some((uid, gid)) = self.owner(entry) {
            chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(at("set the owner of"))?;
        }
        // A link has no mode of its own.
        if entry.mode & SPECIAL != 0 && !is_link {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = openat(directory, name, flags, Mode::empty()).map_err(at("find"))?;
            chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), Mode::from_raw_mode(entry.mode))
                .map_err(at("set the mode of"))?;
        }
        if !entry.xattrs.is_empty() {
            // There is no call that takes a directory and a name before Linux 6.13.
            let directory = format!("/proc/self/fd/{}/", directory.as_raw_fd());
            let path = [directory.as_bytes(), name].concat();
            for xattr in &entry.xattrs {
                lsetxattr(&*path, &*xattr.name, &xattr.value, XattrFlags::empty())
                    .map_err(at(SET_XATTR))?;
            }
        }
        utimensat(directory, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(at("set the time of"))
    }

    /// The owner to set, if it is not the one that the entry was made with.
    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        ((entry.uid, entry.gid) != (self.uid, self.gid))
            .then(|| (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)))
    }
}

/// The time of the last access stays the moment of installation: later than the content's, so that
/// `relatime` does not write one for each file that is read.
fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}
