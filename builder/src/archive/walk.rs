//! Lists a tree: every entry with all its attributes, in the tar's order.
//!
//! Directories are listed by several threads, as the three system calls that each entry takes are
//! what costs time. Nothing is opened through a symbolic link: paths are resolved below the root's
//! descriptor by `openat2` with `RESOLVE_NO_SYMLINKS`.

use std::{
    collections::{HashMap, hash_map},
    ffi::{CStr, OsStr},
    fmt, io,
    num::NonZero,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use gse_protocol::{
    Sha256,
    index::{Content, Entry, Kind, MAX_PATH, Time, Xattr},
};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags,
        lgetxattr, llistxattr, openat2, statx,
    },
    io::Errno,
};

use super::{error::Error, sparse};

/// A listed tree.
pub(super) struct Tree {
    /// The root directory.
    pub(super) root: OwnedFd,
    /// Parents first, siblings sorted by the bytes of their names. Files have no offset and, unless
    /// they are empty, no digest yet.
    pub(super) entries: Vec<Entry>,
    /// Sorted.
    pub(super) notes: Vec<Note>,
}

/// What the person should know of the tree; not an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A socket, which means nothing without the process that listens.
    Socket(PathBuf),
    /// Another file system is mounted here. Its content is in the image.
    Mount(PathBuf),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{} is a socket: left out", path.display()),
            Self::Mount(path) => {
                write!(f, "{} is a mount point: what is mounted there is packed", path.display())
            }
        }
    }
}

/// A path below the root, for messages.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(if bytes.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(bytes) }).to_owned()
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

/// Lists the directory `root` with this many threads.
pub(super) fn walk(root: OwnedFd, threads: NonZero<usize>) -> Result<Tree, Error> {
    let queue = Queue::default();
    let mut scanner = Scanner::new(&root);
    let top = scanner.entry(root.as_fd(), c".", b"")?;
    let top = top.ok_or_else(|| not_listed(b"", Errno::NOTDIR))?;
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                let mut scanner = Scanner::new(&root);
                while let Some((number, path)) = queue.pop() {
                    queue.done(number, scanner.directory(&path, &queue));
                }
            });
        }
    });
    let (listings, notes) = queue.into_listings()?;
    let entries = flatten(top, listings)?;
    Ok(Tree { root, entries, notes })
}

/// An entry in its directory.
struct Node {
    /// With its name alone as the path.
    entry: Entry,
    /// A directory's number.
    directory: Option<usize>,
    /// Of a regular file that has several names.
    inode: Option<Inode>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    device: (u32, u32),
    number: u64,
}

/// The directories that are still to be listed, and those that have been.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Last in, first out: short paths wait, so there is never much here.
    waiting: Vec<(usize, Vec<u8>)>,
    working: usize,
    /// By number.
    listings: Vec<Vec<Node>>,
    notes: Vec<Note>,
    error: Option<Error>,
}

impl Default for Queue {
    fn default() -> Self {
        let state = State {
            waiting: vec![(0, Vec::new())],
            working: 0,
            listings: vec![Vec::new()],
            notes: Vec::new(),
            error: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory, or `None` when there will be no more.
    fn pop(&self) -> Option<(usize, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(next) = state.waiting.pop() {
                state.working += 1;
                return Some(next);
            }
            if state.working == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Numbers the directories among the nodes, and queues them.
    fn push(&self, parent: &[u8], nodes: &mut [Node]) {
        let mut state = self.lock();
        for node in nodes.iter_mut().filter(|n| n.entry.kind == Kind::Directory) {
            let number = state.listings.len();
            state.listings.push(Vec::new());
            state.waiting.push((number, join(parent, &node.entry.path)));
            node.directory = Some(number);
        }
        self.changed.notify_all();
    }

    fn note(&self, note: Note) {
        self.lock().notes.push(note);
    }

    fn done(&self, number: usize, listing: Result<Vec<Node>, Error>) {
        let mut state = self.lock();
        state.working -= 1;
        match listing {
            Ok(nodes) => {
                if let Some(place) = state.listings.get_mut(number) {
                    *place = nodes;
                }
            }
            Err(error) => state.error = state.error.take().or(Some(error)),
        }
        self.changed.notify_all();
    }

    fn into_listings(self) -> Result<(Vec<Vec<Node>>, Vec<Note>), Error> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.notes.sort();
        match state.error {
            Some(error) => Err(error),
            None => Ok((state.listings, state.notes)),
        }
    }
}

/// Puts the directories' listings into the tar's order, and finds hard links.
fn flatten(top: Node, mut listings: Vec<Vec<Node>>) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut names: HashMap<Inode, u32> = HashMap::new();
    let mut stack = vec![(Vec::new(), Node { directory: Some(0), ..top })];
    while let Some((path, node)) = stack.pop() {
        if path.len() > MAX_PATH {
            let why = format!("has a path of over {MAX_PATH} bytes");
            return Err(Error::Unfit { path: path_of(&path), why });
        }
        let mut entry = node.entry;
        if let Some(listing) = node.directory.and_then(|d| listings.get_mut(d)) {
            let children = std::mem::take(listing).into_iter().rev();
            stack.extend(children.map(|child| (join(&path, &child.entry.path), child)));
        }
        if let Some(inode) = node.inode {
            match names.entry(inode) {
                hash_map::Entry::Occupied(first) => link(&mut entry, *first.get()),
                hash_map::Entry::Vacant(place) => {
                    place.insert(u32::try_from(entries.len()).map_err(|_| {
                        let why = "comes after four thousand million others".to_owned();
                        Error::Unfit { path: path_of(&path), why }
                    })?);
                }
            }
        }
        entry.path = path;
        entries.push(entry);
    }
    Ok(entries)
}

fn link(entry: &mut Entry, first: u32) {
    *entry = Entry {
        path: Vec::new(),
        kind: Kind::Hardlink(first),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    };
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn not_listed(path: &[u8], errno: Errno) -> Error {
    Error::Read { doing: "listing", path: path_of(path), source: errno.into() }
}

/// Lists directories with buffers of its own.
struct Scanner<'r> {
    root: &'r OwnedFd,
    directory: Vec<u8>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl<'r> Scanner<'r> {
    fn new(root: &'r OwnedFd) -> Self {
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
    fn directory(&mut self, path: &[u8], queue: &Queue) -> Result<Vec<Node>, Error> {
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
            if item.file_name() != c"." && item.file_name() != c".." {
                names.push(item.file_name().to_owned());
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
    fn entry(
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
        for name in self.names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
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
