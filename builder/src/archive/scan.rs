//! Reads one directory of a tree: its entries with all their attributes.
//!
//! Nothing is opened through a symbolic link: paths are resolved below the root's descriptor by
//! `openat2` with `RESOLVE_NO_SYMLINKS`.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use gse_protocol::{
    Sha256,
    index::{Content, Entry, Kind, RECORDS, Time, Xattr},
};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags,
        lgetxattr, llistxattr, openat2, statx,
    },
    io::Errno,
};

use super::{
    error::Error,
    sparse,
    walk::{Note, Queue, join, path_of},
};

/// An entry in its directory.
pub(super) struct Node {
    /// With its name alone as the path.
    pub(super) entry: Entry,
    /// A directory's number.
    pub(super) directory: Option<usize>,
    /// Of a regular file that has several names.
    pub(super) inode: Option<Inode>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    pub(super) device: (u32, u32),
    pub(super) number: u64,
}

/// Opens what is at `path` below `root`. It never waits for the other end of a named pipe.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let path = if path.is_empty() { b"." } else { path };
    let open = |flags| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(root, path, flags, Mode::empty(), resolve)
    };
    // Archiving a tree should not write to it. Only a file's owner and root may ask for that.
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => Ok(open(flags)?),
        other => Ok(other?),
    }
}

pub(super) fn not_listed(path: &[u8], errno: Errno) -> Error {
    Error::Read { doing: "listing", path: path_of(path), source: errno.into() }
}

/// Lists directories with buffers of its own.
pub(super) struct Scanner<'r> {
    root: &'r OwnedFd,
    directory: Vec<u8>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl<'r> Scanner<'r> {
    pub(super) fn new(root: &'r OwnedFd) -> Self {
        // The kernel's own limits for a list of attributes and for a value.
        const XATTR_MAX: usize = 64 << 10;
        Self {
            root,
            directory: Vec::with_capacity(32 << 10),
            names: Vec::with_capacity(XATTR_MAX),
            value: Vec::with_capacity(XATTR_MAX),
        }
    }

    /// The sorted entries of a directory.
    pub(super) fn directory(&mut self, path: &[u8], queue: &Queue) -> Result<Vec<Node>, Error> {
        let directory = open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY);
        let directory = directory.map_err(|source| Error::Read {
            doing: "listing",
            path: path_of(path),
            source,
        })?;
        self.check_mount(directory.as_fd(), path, queue)?;
        let mut names = Vec::new();
        let mut raw = RawDir::new(&directory, self.directory.spare_capacity_mut());
        while let Some(item) = raw.next() {
            let item = item.map_err(|e| not_listed(path, e))?;
            let name = item.file_name();
            // A tree that was a slot of a machine has that machine's records, which are no part of a system.
            let records = path.is_empty() && name.to_bytes() == RECORDS;
            if name != c"." && name != c".." && !records {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();

        let mut nodes = Vec::with_capacity(names.len());
        for name in &names {
            match self.entry(directory.as_fd(), name, path)? {
                Some(node) => nodes.push(node),
                None => queue.note(Note::Socket(path_of(&join(path, name.to_bytes())))),
            }
        }
        queue.push(path, &mut nodes);
        Ok(nodes)
    }

    /// What is mounted in the tree is part of it, but not the kernel's own file systems, which are
    /// often still mounted in a tree that somebody worked in.
    fn check_mount(
        &self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        queue: &Queue,
    ) -> Result<(), Error> {
        const PROC: i64 = 0x9fa0;
        const SYSFS: i64 = 0x6265_6572;
        let failed = |e| not_listed(path, e);
        let stat = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(failed)?;
        if !path.is_empty() && stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            let kind = rustix::fs::fstatfs(directory).map_err(failed)?.f_type;
            if kind == PROC || kind == SYSFS {
                let why = "has the kernel's /proc or /sys mounted: unmount it first".to_owned();
                return Err(Error::Unfit { path: path_of(path), why });
            }
            queue.note(Note::Mount(path_of(path)));
        }
        Ok(())
    }

    /// One entry, or `None` for a socket. `parent` is for messages.
    pub(super) fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        parent: &[u8],
    ) -> Result<Option<Node>, Error> {
        let full = || path_of(&join(parent, name.to_bytes()));
        let failed = |doing| {
            move |errno: Errno| match errno {
                Errno::NOENT => Error::Changed { path: full(), what: "vanished" },
                _ => Error::Read { doing, path: full(), source: errno.into() },
            }
        };
        let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
            .map_err(failed("looking at"))?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Socket => return Ok(None),
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                Kind::Symlink(target.map_err(failed("reading the link"))?.into_bytes())
            }
            FileType::CharacterDevice => Kind::CharDevice(stat.stx_rdev_major, stat.stx_rdev_minor),
            FileType::BlockDevice => Kind::BlockDevice(stat.stx_rdev_major, stat.stx_rdev_minor),
            FileType::Fifo => Kind::Fifo,
            FileType::RegularFile => {
                let extents = sparse::extents(directory, name, &stat);
                Kind::File(Content {
                    size: stat.stx_size,
                    offset: 0,
                    sha256: Sha256::of(b""),
                    extents: extents.map_err(failed("finding the holes of"))?,
                })
            }
            FileType::Unknown => {
                return Err(Error::Unfit { path: full(), why: "is of an unknown type".to_owned() });
            }
        };
        let inode = (matches!(kind, Kind::File(_)) && stat.stx_nlink > 1).then_some(Inode {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
        });
        let entry = Entry {
            path: name.to_bytes().to_vec(),
            kind,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: mtime(&stat),
            xattrs: self.xattrs(directory, name).map_err(failed("reading the attributes of"))?,
        };
        Ok(Some(Node { entry, directory: None, inode }))
    }

    /// All extended attributes, sorted by name.
    fn xattrs(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Vec<Xattr>> {
        // There is no llistxattrat before Linux 6.13.
        let path =
            [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()]
                .concat();
        self.names.clear();
        match llistxattr(path.as_slice(), spare_capacity(&mut self.names)) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut xattrs = Vec::new();
        // XFS shows each ACL a second time, under a name of its own.
        let real = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_");
        for name in self.names.split(|b| *b == 0).filter(real) {
            self.value.clear();
            match lgetxattr(path.as_slice(), name, spare_capacity(&mut self.value)) {
                Ok(_) => xattrs.push(Xattr { name: name.to_vec(), value: self.value.clone() }),
                // Some file systems list attributes that only they can read.
                Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno),
            }
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }
}

/// When the content was last changed.
pub(super) fn mtime(stat: &Statx) -> Time {
    Time { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec }
}
