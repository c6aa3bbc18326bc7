//! Lists a tree: every entry with all its attributes, in the tar's order.
//!
//! Directories are listed by several threads, as the three system calls that each entry takes are
//! what costs time.

use std::{
    collections::{HashMap, hash_map},
    ffi::OsStr,
    fmt,
    num::NonZero,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use gse_protocol::index::{Entry, Kind, MAX_PATH, Time};
use rustix::io::Errno;

use super::{
    error::Error,
    scan::{Inode, Node, Scanner, not_listed},
};

/// A listed tree.
pub(super) struct Tree {
    /// The root directory.
    pub(super) root: OwnedFd,
    /// Parents first, siblings sorted by the bytes of their names. Files have no offset and, unless
    /// they are empty, no digest yet.
    pub(super) entries: Vec<Entry>,
    /// Sorted.
    pub(super) notes: Vec<Note>,
    /// What the tree says about entries whose time [`Tree::settle`] has changed, by their number.
    later: HashMap<usize, Time>,
}

impl Tree {
    /// Later times than this one, in seconds since 1970, become it.
    pub(super) fn settle(&mut self, until: u64) {
        let latest = Time { seconds: i64::try_from(until).unwrap_or(i64::MAX), nanoseconds: 0 };
        for (number, entry) in self.entries.iter_mut().enumerate() {
            if entry.mtime > latest {
                self.later.insert(number, std::mem::replace(&mut entry.mtime, latest));
            }
        }
    }

    /// When the content of an entry was last changed, as the tree says it.
    pub(super) fn mtime(&self, number: usize) -> Option<Time> {
        let settled = || self.entries.get(number).map(|entry| entry.mtime);
        self.later.get(&number).copied().or_else(settled)
    }
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

/// Lists the directory `root` with this many threads.
pub(super) fn walk(root: OwnedFd, threads: NonZero<usize>) -> Result<Tree, Error> {
    if !Path::new("/proc/self/fd").exists() {
        let why = "/proc is not mounted: mount it, as extended attributes are read by way of it";
        return Err(Error::System(why.to_owned()));
    }
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
    Ok(Tree { root, entries, notes, later: HashMap::new() })
}

/// The directories that are still to be listed, and those that have been.
pub(super) struct Queue {
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
    pub(super) fn push(&self, parent: &[u8], nodes: &mut [Node]) {
        let mut state = self.lock();
        for node in nodes.iter_mut().filter(|n| n.entry.kind == Kind::Directory) {
            let number = state.listings.len();
            state.listings.push(Vec::new());
            state.waiting.push((number, join(parent, &node.entry.path)));
            node.directory = Some(number);
        }
        self.changed.notify_all();
    }

    pub(super) fn note(&self, note: Note) {
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

/// A path below the root, of a directory's and a name in it.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
