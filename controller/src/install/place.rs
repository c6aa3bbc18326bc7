//! Reaches the directories of a tree, the one that is being made or a source, and never leaves it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat, openat2, unlinkat};

use super::InstallError;

/// What an error says was being done.
const OPEN: &str = "open the directory";

/// The directory of a path, and the name in it.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (&[], path),
    }
}

/// Opens directories below a root; keeps the last one open, since neighbours in the index are
/// neighbours in the tree. Each thread has its own.
///
/// The index cannot name anything outside of the tree or reached through a link. Should the
/// filesystem hold a link all the same, the kernel refuses to go through it: `openat2` with
/// `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` (Linux 5.6).
pub(super) struct Places<'f> {
    root: BorrowedFd<'f>,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<'f> Places<'f> {
    pub(super) fn new(root: BorrowedFd<'f>) -> Self {
        Self { root, last: None }
    }

    /// The directory at `path`.
    fn directory(&mut self, path: &[u8]) -> rustix::io::Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let fd = open_beneath(self.root, path, OFlags::PATH)?;
            self.last = Some((path.to_owned(), fd));
        }
        Ok(self.last.as_ref().map_or(self.root, |(_, fd)| fd.as_fd()))
    }

    /// The directory that `path` lies in, and the name there.
    pub(super) fn find<'p>(
        &mut self,
        path: &'p [u8],
    ) -> rustix::io::Result<(BorrowedFd<'_>, &'p [u8])> {
        let (directory, name) = split(path);
        Ok((self.directory(directory)?, name))
    }

    /// The same in the tree that is being made.
    pub(super) fn parent<'p>(
        &mut self,
        path: &'p [u8],
    ) -> Result<(BorrowedFd<'_>, &'p [u8]), InstallError> {
        self.find(path).map_err(InstallError::system(OPEN, split(path).0))
    }

    /// Takes a file away again that was made here.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), InstallError> {
        let (directory, name) = self.parent(path)?;
        unlinkat(directory, name, AtFlags::empty()).map_err(InstallError::system("remove", path))
    }

    /// Makes a file that was not there, to be written, and perhaps read to check it.
    pub(super) fn create(&mut self, path: &[u8], mode: Mode) -> Result<OwnedFd, InstallError> {
        let (directory, name) = self.parent(path)?;
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOATIME
            | OFlags::CLOEXEC
            | OFlags::LARGEFILE;
        openat(directory, name, flags, mode).map_err(InstallError::system("create", path))
    }
}

/// Opens the directory at `path`, to change it.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, InstallError> {
    open_beneath(root, if path.is_empty() { b"." } else { path }, OFlags::RDONLY)
        .map_err(InstallError::system(OPEN, path))
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8], access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        for (path, directory, name) in
            [("a", "", "a"), ("a/b", "a", "b"), ("a/b/c", "a/b", "c"), ("", "", "")]
        {
            assert_eq!(split(path.as_bytes()), (directory.as_bytes(), name.as_bytes()));
        }
    }
}
