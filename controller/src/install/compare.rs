//! A tree beside the signed index that it was made from.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::{Mutex, PoisonError},
};

use gse_protocol::{
    Index,
    index::{Content, Entry, Kind, RECORDS, Xattr},
};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, Dir, FileType, SeekFrom, Stat, lgetxattr, llistxattr, major, makedev, minor,
        readlinkat, seek, statat,
    },
    io::{Errno, pread},
};

use super::{
    Damage, InstallError, LocalTree, NODES,
    kept::{configured, join},
    place::{Places, open_directory},
    plan,
    progress::Meter,
    reading,
    threads::each,
};
use crate::files;

/// What mkfs makes at the top of an ext4.
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// XFS shows each ACL a second time, under a name of its own: fs/xfs/libxfs/xfs_fs.h of Linux.
const XFS_ACL: &[u8] = b"trusted.SGI_ACL_";
/// The most bytes in a list of names, and in a value, of extended attributes: xattr(7).
const XATTRS: usize = 64 << 10;

/// How something in a tree differs from the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is missing, or has other content.
    Damage(Damage),
    /// It is something else, such as a directory instead of a file.
    Kind {
        /// In the index.
        expected: &'static str,
        /// In the tree.
        found: &'static str,
    },
    /// A symbolic link that says something else.
    Target,
    /// No longer another name of the same file as this one.
    Link(String),
    /// A device with other numbers.
    Device {
        /// Major and minor in the index.
        expected: (u32, u32),
        /// In the tree.
        found: (u32, u32),
    },
    /// Other permissions.
    Mode {
        /// In the index.
        expected: u32,
        /// In the tree.
        found: u32,
    },
    /// Another user or group.
    Owner {
        /// User and group in the index.
        expected: (u32, u32),
        /// In the tree.
        found: (u32, u32),
    },
    /// A file that was changed at another time.
    Time,
    /// Other extended attributes: the names of those that differ.
    Xattrs(Vec<String>),
    /// The index does not have it, nor has the configuration put it there. Of a directory, all that is in it.
    Extra,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(damage) => damage.fmt(f),
            Self::Kind { expected, found } => write!(f, "a {found} instead of a {expected}"),
            Self::Target => f.write_str("a link to somewhere else"),
            Self::Link(first) => write!(f, "no longer the same file as /{first}"),
            Self::Device { expected, found } => {
                write!(f, "device {}:{} instead of {}:{}", found.0, found.1, expected.0, expected.1)
            }
            Self::Mode { expected, found } => {
                write!(f, "mode {found:04o} instead of {expected:04o}")
            }
            Self::Owner { expected, found } => {
                write!(f, "owner {}:{} instead of {}:{}", found.0, found.1, expected.0, expected.1)
            }
            Self::Time => f.write_str("changed at another time"),
            Self::Xattrs(names) => write!(f, "other extended attributes ({})", names.join(", ")),
            Self::Extra => f.write_str("not in the image"),
        }
    }
}

/// What was compared, and what differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// Entries of the index.
    pub entries: usize,
    /// Of these, the files that the configuration has changed: the image's own copies of them were compared.
    pub kept: usize,
    /// Each path below the root, and how it differs: in the order of the index, and then what it does not have.
    pub differences: Vec<(Vec<u8>, Difference)>,
}

/// Compares `tree` with the index that it was made from, on `cores` threads. Nothing is written. `progress` is told how
/// many bytes of files are read, and of how many.
///
/// # Errors
/// Those of the system, but for what can be told as a difference.
pub fn compare(
    index: &Index,
    tree: &LocalTree,
    cores: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Compared, InstallError> {
    let kept = tree.kept(index);
    let meter = Meter::new(progress);
    let numbers: Vec<u32> = (0..).take(index.entries.len()).collect();
    meter.expect(numbers.iter().filter_map(|n| plan::file(index, *n)).map(|f| f.1.stored()).sum());
    // By the number of the entry.
    let found = Mutex::new(vec![Vec::new(); index.entries.len()]);
    each(cores, NODES, &numbers, || {
        let mut look = Look {
            index,
            tree,
            kept: &kept,
            root: Places::new(tree.root.as_fd()),
            pristine: tree.pristine.as_ref().map(|fd| Places::new(fd.as_fd())),
            buffer: vec![0; reading::BUFFER],
        };
        let (found, meter) = (&found, &meter);
        move |number| {
            let Some(entry) = index.entries.get(number as usize) else { return Ok(()) };
            let differences = look.entry(number, entry);
            if !differences.is_empty() {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(place) = found.get_mut(number as usize) {
                    *place = differences;
                }
            }
            if let Kind::File(content) = &entry.kind {
                meter.add(content.stored());
            }
            Ok(())
        }
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut differences = Vec::new();
    for (entry, found) in index.entries.iter().zip(found) {
        differences.extend(found.into_iter().map(|difference| (entry.path.clone(), difference)));
    }
    extra(index, tree, &mut differences);
    Ok(Compared { entries: index.entries.len(), kept: kept.len(), differences })
}

/// What one thread keeps from entry to entry.
struct Look<'c> {
    index: &'c Index,
    tree: &'c LocalTree,
    kept: &'c HashMap<u32, &'c str>,
    root: Places<'c>,
    pristine: Option<Places<'c>>,
    buffer: Vec<u8>,
}

impl Look<'_> {
    fn entry(&mut self, number: u32, entry: &Entry) -> Vec<Difference> {
        let Kind::Hardlink(first) = entry.kind else { return self.own(number, entry, entry) };
        // The first name of the file has its content and its metadata in the index.
        let Some(original) = self.index.entries.get(first as usize) else { return Vec::new() };
        if self.kept.contains_key(&number) || self.kept.contains_key(&first) {
            return self.own(number, entry, original);
        }
        let mut root = Places::new(self.tree.root.as_fd());
        let mut inode = |path: &[u8]| stat(&mut root, path).map(|s| (s.st_dev, s.st_ino));
        match (inode(&entry.path), inode(&original.path)) {
            (Ok(one), Ok(other)) if one == other => Vec::new(),
            (Err(damage), _) => vec![Difference::Damage(damage)],
            _ => vec![Difference::Link(String::from_utf8_lossy(&original.path).into_owned())],
        }
    }

    /// Compares what is at the place of `entry`, or the image's own copy of it, with what `wanted` says.
    fn own(&mut self, number: u32, entry: &Entry, wanted: &Entry) -> Vec<Difference> {
        let Self { kept, root, pristine, buffer, .. } = self;
        let (places, path) = match (kept.get(&number), pristine) {
            (Some(path), Some(pristine)) => (pristine, path.as_bytes()),
            _ => (root, entry.path.as_slice()),
        };
        let stat = match stat(places, path) {
            Ok(stat) => stat,
            Err(damage) => return vec![Difference::Damage(damage)],
        };
        let (expected, found) = (kind_of(&wanted.kind), FileType::from_raw_mode(stat.st_mode));
        if expected != found {
            return vec![Difference::Kind { expected: word(expected), found: word(found) }];
        }
        let mut wrong = Vec::new();
        match thing(places, path, &stat, wanted, buffer) {
            Ok(None) => {}
            Ok(Some(difference)) => wrong.push(difference),
            Err(damage) => wrong.push(Difference::Damage(damage)),
        }
        metadata(&stat, wanted, &mut wrong);
        match xattrs(places, path, &wanted.xattrs) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => wrong.push(Difference::Xattrs(names)),
            Err(error) => wrong.push(Difference::Damage(Damage::Unreadable(error))),
        }
        wrong
    }
}

fn stat(places: &mut Places<'_>, path: &[u8]) -> Result<Stat, Damage> {
    let (directory, name) = places.find(path).map_err(Damage::opening)?;
    let name = if name.is_empty() { b"." } else { name };
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Damage::opening)
}

fn kind_of(kind: &Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File(_) | Kind::Hardlink(_) => FileType::RegularFile,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::CharDevice(..) => FileType::CharacterDevice,
        Kind::BlockDevice(..) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
    }
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "directory",
        FileType::RegularFile => "file",
        FileType::Symlink => "link",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "pipe",
        _ => "socket",
    }
}

/// What it is that makes it up: content, target, numbers.
fn thing(
    places: &mut Places<'_>,
    path: &[u8],
    stat: &Stat,
    wanted: &Entry,
    buffer: &mut [u8],
) -> Result<Option<Difference>, Damage> {
    match &wanted.kind {
        Kind::File(content) => {
            file(places, path, content, buffer)?;
        }
        Kind::Symlink(target) => {
            let (directory, name) = places.find(path).map_err(Damage::opening)?;
            let found = readlinkat(directory, name, Vec::new()).map_err(Damage::Unreadable)?;
            return Ok((found.as_bytes() != target.as_slice()).then_some(Difference::Target));
        }
        Kind::CharDevice(first, second) | Kind::BlockDevice(first, second) => {
            if stat.st_rdev != makedev(*first, *second) {
                let found = (major(stat.st_rdev), minor(stat.st_rdev));
                return Ok(Some(Difference::Device { expected: (*first, *second), found }));
            }
        }
        Kind::Directory | Kind::Hardlink(_) | Kind::Fifo => {}
    }
    Ok(None)
}

fn file(
    places: &mut Places<'_>,
    path: &[u8],
    content: &Content,
    buffer: &mut [u8],
) -> Result<(), Damage> {
    let source = reading::open(places, path, content)?;
    reading::check(source.as_fd(), content, buffer)?;
    let mut hole = 0;
    for extent in content.extents.iter().flatten() {
        zeros(source.as_fd(), hole..extent.offset, buffer)?;
        hole = extent.offset.saturating_add(extent.length);
    }
    match &content.extents {
        Some(_) => zeros(source.as_fd(), hole..content.size, buffer),
        None => Ok(()),
    }
}

/// Nothing but zeros may be where the image has a hole. A file system may store some of them.
fn zeros(source: BorrowedFd<'_>, hole: Range<u64>, buffer: &mut [u8]) -> Result<(), Damage> {
    let mut at = hole.start;
    while at < hole.end {
        at = match seek(source, SeekFrom::Data(at)) {
            Ok(data) if data < hole.end => data,
            Ok(_) | Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(Damage::Unreadable(error)),
        };
        let length = usize::try_from(hole.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = pread(source, buffer.get_mut(..length).unwrap_or_default(), at);
        let read = read.map_err(Damage::Unreadable)?;
        if read == 0 || buffer.iter().take(read).any(|byte| *byte != 0) {
            return Err(Damage::Content);
        }
        at += read as u64;
    }
    Ok(())
}

fn metadata(stat: &Stat, wanted: &Entry, wrong: &mut Vec<Difference>) {
    let owner = (stat.st_uid, stat.st_gid);
    if owner != (wanted.uid, wanted.gid) {
        wrong.push(Difference::Owner { expected: (wanted.uid, wanted.gid), found: owner });
    }
    let mode = stat.st_mode & 0o7777;
    // A link has no mode of its own.
    if mode != wanted.mode && !matches!(wanted.kind, Kind::Symlink(_)) {
        wrong.push(Difference::Mode { expected: wanted.mode, found: mode });
    }
    // Of directories it changes with each name in them.
    if matches!(wanted.kind, Kind::File(_)) && stat.st_mtime != wanted.mtime.seconds {
        wrong.push(Difference::Time);
    }
}

/// The names of the extended attributes that differ.
fn xattrs(
    places: &mut Places<'_>,
    path: &[u8],
    wanted: &[Xattr],
) -> rustix::io::Result<Vec<String>> {
    let (directory, name) = places.find(path)?;
    // There is no call that takes a directory and a name before Linux 6.13.
    let at = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    let mut names = Vec::with_capacity(XATTRS);
    match llistxattr(at.as_slice(), spare_capacity(&mut names)) {
        Ok(_) | Err(Errno::NOTSUP) => {}
        Err(e) => return Err(e),
    }
    if names.is_empty() && wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut differ = Vec::new();
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let found: Vec<&[u8]> = names.filter(|name| !name.starts_with(XFS_ACL)).collect();
    for name in &found {
        let mut value = Vec::with_capacity(XATTRS);
        lgetxattr(at.as_slice(), *name, spare_capacity(&mut value))?;
        if !wanted.iter().any(|x| x.name == *name && x.value == value) {
            differ.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    let missing = wanted.iter().filter(|x| !found.contains(&x.name.as_slice()));
    differ.extend(missing.map(|x| String::from_utf8_lossy(&x.name).into_owned()));
    Ok(differ)
}

/// What is in the tree, and neither in the index nor the configuration's. Directories that cannot be read were told of
/// already.
fn extra(index: &Index, tree: &LocalTree, differences: &mut Vec<(Vec<u8>, Difference)>) {
    let paths = index.entries.iter().map(|entry| entry.path.as_slice());
    let known: HashMap<&[u8], &[u8]> = paths.map(|path| (path, path)).collect();
    let configured = configured(index, &tree.applied);
    let is_directory = |entry: &&Entry| entry.kind == Kind::Directory;
    let directories = index.entries.iter().filter(is_directory).map(|entry| &entry.path);
    let others = configured.keys().filter(|path| !known.contains_key(path.as_slice()));
    for directory in directories.chain(others) {
        for path in names(tree.root.as_fd(), directory) {
            // What a power cut may have left of a file of the configuration counts as that.
            let name = path.strip_suffix(files::UNFINISHED.as_bytes()).unwrap_or(&path);
            let own = path == RECORDS || path == LOST_AND_FOUND || configured.contains_key(name);
            if !own && !known.contains_key(path.as_slice()) {
                differences.push((path, Difference::Extra));
            }
        }
    }
}

/// The paths of all that is in a directory; none where it is no directory.
fn names(root: BorrowedFd<'_>, directory: &[u8]) -> Vec<Vec<u8>> {
    let Ok(entries) = open_directory(root, directory).map(Dir::new) else { return Vec::new() };
    let names = entries.into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .map(|name| join(directory, &name))
        .collect()
}
