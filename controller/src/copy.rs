//! Copies of files and directories with everything that belongs to them: owner, mode, times, extended
//! attributes, links.

use std::{
    ffi::CString,
    mem,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens,
        lgetxattr, llistxattr, lsetxattr, mkdirat, mknodat, openat, readlinkat, statat, symlinkat,
        utimensat,
    },
    io::{Errno, read, write},
};

/// What a read asks for at most, and what names and values of extended attributes have at most: xattr(7).
const BUFFER: usize = 64 << 10;

/// Copies what is at `from`, with all that is in it if it is a directory, to `to`, which must not exist
/// unless it is a directory too.
///
/// # Errors
/// Those of the system, with the path at which it stopped.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (source, target) = (name(from)?, name(to)?);
    Copier::default().copy(At(CWD, &source, from), At(CWD, &target, to))
}

/// Copies all that is in the directory `from` into the directory `to`, both of which exist. Several
/// threads do it: a file that was not read since the start is waited for.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_content(from: &Path, to: &Path) -> Result<()> {
    let (source, target) = (open_directory(CWD, from)?, open_directory(CWD, to)?);
    let names = names(&source).with_context(|| format!("listing {}", from.display()))?;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut copier = Copier::default();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            copier.inside((&source, from), (&target, to), name)?;
        }
        Ok(())
    };
    let helpers = thread::available_parallelism().map_or(1, |n| n.get()).min(4) - 1;
    thread::scope(|scope| {
        // Without a helper thread this one does all of it.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (0..helpers).filter_map(spawn).collect();
        let own = work();
        let theirs = helpers.into_iter().map(|helper| match helper.join() {
            Ok(done) => done,
            Err(_) => bail!("copying {}: a thread of it failed", from.display()),
        });
        theirs.fold(own, Result::and)
    })
}

fn open_directory(base: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(base, path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))
}

fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// A directory, a name in it, and the whole path, for messages and for what has no descriptor.
struct At<'a>(BorrowedFd<'a>, &'a CString, &'a Path);

/// Its buffers are used again for each file.
#[derive(Default)]
struct Copier {
    data: Vec<u8>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Copier {
    fn inside(
        &mut self,
        (from, from_path): (&OwnedFd, &Path),
        (to, to_path): (&OwnedFd, &Path),
        name: &CString,
    ) -> Result<()> {
        let file = std::ffi::OsStr::from_bytes(name.to_bytes());
        let (source, target) = (from_path.join(file), to_path.join(file));
        self.copy(At(from.as_fd(), name, &source), At(to.as_fd(), name, &target))
    }

    fn copy(&mut self, from: At<'_>, to: At<'_>) -> Result<()> {
        let copying = || format!("copying {} to {}", from.2.display(), to.2.display());
        let stat = statat(from.0, from.1, AtFlags::SYMLINK_NOFOLLOW).with_context(copying)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(&from, &to, &stat),
            FileType::RegularFile => self.file(&from, &to, &stat).with_context(copying),
            FileType::Symlink => self.link(&from, &to, &stat).with_context(copying),
            // A socket without its process is nothing.
            FileType::Socket => Ok(()),
            kind => self.node(&from, &to, kind, &stat).with_context(copying),
        }
    }

    fn directory(&mut self, from: &At<'_>, to: &At<'_>, stat: &Stat) -> Result<()> {
        let copying = || format!("copying {} to {}", from.2.display(), to.2.display());
        match mkdirat(to.0, to.1, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e).with_context(copying),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |at: &At<'_>| openat(at.0, at.1, flags, Mode::empty()).with_context(copying);
        let (source, target) = (open(from)?, open(to)?);
        for name in names(&source).with_context(copying)? {
            self.inside((&source, from.2), (&target, to.2), &name)?;
        }
        // After its content, which changes its time.
        self.metadata(&source, &target, stat).with_context(copying)
    }

    fn file(&mut self, from: &At<'_>, to: &At<'_>, stat: &Stat) -> rustix::io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from.0, from.1, flags | OFlags::RDONLY, Mode::empty())?;
        let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let target = openat(to.0, to.1, new, Mode::RUSR | Mode::WUSR)?;
        loop {
            self.data.clear();
            self.data.reserve(BUFFER);
            if read(&source, spare_capacity(&mut self.data))? == 0 {
                break;
            }
            let mut rest = self.data.as_slice();
            while !rest.is_empty() {
                let written = write(&target, rest)?;
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        self.metadata(&source, &target, stat)
    }

    fn link(&mut self, from: &At<'_>, to: &At<'_>, stat: &Stat) -> rustix::io::Result<()> {
        let target = readlinkat(from.0, from.1, mem::take(&mut self.data))?;
        symlinkat(&target, to.0, to.1)?;
        self.data = target.into_bytes();
        self.metadata_by_name(from, to, stat)
    }

    fn node(
        &mut self,
        from: &At<'_>,
        to: &At<'_>,
        kind: FileType,
        stat: &Stat,
    ) -> rustix::io::Result<()> {
        mknodat(to.0, to.1, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?;
        self.metadata_by_name(from, to, stat)?;
        chmodat(to.0, to.1, permissions(stat), AtFlags::empty())
    }

    fn metadata(&mut self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
        let (uid, gid) = owner(stat);
        fchown(to, Some(uid), Some(gid))?;
        // After the owner, whose change takes setuid away.
        fchmod(to, permissions(stat))?;
        self.xattrs(
            |names| flistxattr(from, spare_capacity(names)),
            |name, value| fgetxattr(from, name, spare_capacity(value)),
            |name, value| fsetxattr(to, name, value, XattrFlags::empty()),
        )?;
        futimens(to, &times(stat))
    }

    /// For what is not opened.
    fn metadata_by_name(
        &mut self,
        from: &At<'_>,
        to: &At<'_>,
        stat: &Stat,
    ) -> rustix::io::Result<()> {
        let (uid, gid) = owner(stat);
        chownat(to.0, to.1, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        self.xattrs(
            |names| llistxattr(from.2, spare_capacity(names)),
            |name, value| lgetxattr(from.2, name, spare_capacity(value)),
            |name, value| lsetxattr(to.2, name, value, XattrFlags::empty()),
        )?;
        utimensat(to.0, to.1, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn xattrs(
        &mut self,
        list: impl FnOnce(&mut Vec<u8>) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut Vec<u8>) -> rustix::io::Result<usize>,
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        self.names.clear();
        self.names.reserve(BUFFER);
        match list(&mut self.names) {
            Ok(_) => {}
            Err(Errno::NOTSUP) => return Ok(()),
            Err(e) => return Err(e),
        }
        for name in self.names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            self.value.clear();
            self.value.reserve(BUFFER);
            get(name, &mut self.value)?;
            match set(name, &self.value) {
                // tmpfs has no user attributes before Linux 6.6; ACLs and capabilities it has.
                Err(Errno::NOTSUP) if name.starts_with(b"user.") => {}
                done => done?,
            }
        }
        Ok(())
    }
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_copy_has_everything_that_the_original_has() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        std::os::unix::fs::chown(from.join("sub/file"), Some(5), Some(6)).unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        lsetxattr(from.join("sub/file"), "trusted.gse", b"x", XattrFlags::empty()).unwrap();
        symlink("file", from.join("sub/link")).unwrap();

        copy_tree(&from, &to).unwrap();
        let (old, new) = (
            fs::metadata(from.join("sub/file")).unwrap(),
            fs::metadata(to.join("sub/file")).unwrap(),
        );
        assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"text");
        assert_eq!((new.uid(), new.gid(), new.mode()), (5, 6, old.mode()));
        assert_eq!((new.mtime(), new.mtime_nsec()), (old.mtime(), old.mtime_nsec()));
        let mut value = [0; 8];
        assert_eq!(lgetxattr(to.join("sub/file"), "trusted.gse", &mut value), Ok(1));
        assert_eq!(fs::read_link(to.join("sub/link")).unwrap(), Path::new("file"));
        let dirs = (fs::metadata(from.join("sub")).unwrap(), fs::metadata(to.join("sub")).unwrap());
        assert_eq!(dirs.0.mtime_nsec(), dirs.1.mtime_nsec());
    }
    #[test]
    fn the_content_of_a_directory_is_copied_and_the_first_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&to).unwrap();
        for number in 0..50 {
            let sub = from.join(format!("{number}.d"));
            fs::create_dir_all(&sub).unwrap();
            fs::write(sub.join("file"), number.to_string()).unwrap();
        }
        copy_content(&from, &to).unwrap();
        for number in 0..50 {
            let text = fs::read_to_string(to.join(format!("{number}.d/file"))).unwrap();
            assert_eq!(text, number.to_string());
        }
        fs::write(from.join("one"), "").unwrap();
        let error = format!("{:#}", copy_content(&from, &to).unwrap_err());
        assert!(error.contains("file") && error.contains("exists"), "{error}");
    }
}
