//! One program at a time in a folder that is published.

use std::{fs::File, io, ops::Deref, path::Path};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// A folder that no other `gse` publishes into while this lives.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Locks `folder`; none if another program holds the lock.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        let folder = File::open(folder)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(folder))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl Deref for FolderLock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that is just being forked still has the file open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_even_while_the_file_is_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(dir.path()).unwrap().unwrap();
        let inherited = lock.try_clone().unwrap();
        assert!(FolderLock::take(dir.path()).unwrap().is_none());
        drop(lock);
        assert!(FolderLock::take(dir.path()).unwrap().is_some());
        drop(inherited);
    }
}
