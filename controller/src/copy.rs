//! Copies of files and directories with everything that belongs to them: owner, mode, times, extended
//! attributes, links.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
        lgetxattr, llistxattr, lsetxattr, mknodat, utimensat,
    },
    io::Errno,
};

/// Copies what is at `from`, with all that is in it if it is a directory, to `to`, which must not exist
/// unless it is a directory too.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let meta =
        fs::symlink_metadata(from).with_context(|| format!("looking at {}", from.display()))?;
    if meta.is_dir() {
        match fs::create_dir(to) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("making {}", to.display()));
            }
            _ => {}
        }
        for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
            let entry = entry.with_context(|| format!("listing {}", from.display()))?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        // After its content, which changes its time.
        return copy_metadata(from, &meta, to);
    }
    copy_node(from, &meta, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    copy_metadata(from, &meta, to)
}

fn copy_node(from: &Path, meta: &fs::Metadata, to: &Path) -> io::Result<()> {
    let kind = meta.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if kind.is_file() {
        let mut source = fs::File::open(from)?;
        let mut target = fs::File::create_new(to)?;
        io::copy(&mut source, &mut target).map(drop)
    } else {
        let node = match () {
            () if kind.is_char_device() => FileType::CharacterDevice,
            () if kind.is_block_device() => FileType::BlockDevice,
            () if kind.is_fifo() => FileType::Fifo,
            // A socket without its process is nothing.
            () => return Ok(()),
        };
        Ok(mknodat(CWD, to, node, Mode::from_raw_mode(0o600), meta.rdev())?)
    }
}

fn copy_metadata(from: &Path, meta: &fs::Metadata, to: &Path) -> Result<()> {
    if meta.file_type().is_socket() {
        return Ok(());
    }
    (|| {
        let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
        chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !meta.file_type().is_symlink() {
            // After the owner, whose change takes setuid away.
            chmodat(CWD, to, Mode::from_raw_mode(meta.mode() & 0o7777), AtFlags::empty())?;
        }
        copy_xattrs(from, to)?;
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(meta.atime(), meta.atime_nsec()),
            last_modification: time(meta.mtime(), meta.mtime_nsec()),
        };
        utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)
    })()
    .with_context(|| format!("copying what belongs to {} to {}", from.display(), to.display()))
}

fn copy_xattrs(from: &Path, to: &Path) -> rustix::io::Result<()> {
    let mut names = Vec::with_capacity(64 << 10);
    match llistxattr(from, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e),
    }
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(64 << 10);
        lgetxattr(from, name, spare_capacity(&mut value))?;
        match lsetxattr(to, name, &value, XattrFlags::empty()) {
            // tmpfs has no user attributes before Linux 6.6; ACLs and capabilities it has.
            Err(Errno::NOTSUP) if name.starts_with(b"user.") => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
}
