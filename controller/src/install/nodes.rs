//! Directories, links, devices, pipes, files without content; and the directories' metadata, at the end.

use std::os::fd::{AsFd as _, BorrowedFd};

use gse_protocol::index::{Entry, Kind};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, fchmod, ftruncate, linkat, makedev, mkdirat, mknodat, symlinkat,
    },
    io::Errno,
};

use super::{
    InstallError,
    metadata::Metadata,
    place::{Places, open_directory},
    plan::Plan,
};

/// Makes all directories. The root is closed to everybody else until it gets its own metadata.
pub(super) fn directories(
    plan: &Plan<'_>,
    metadata: Metadata,
    root: BorrowedFd<'_>,
) -> Result<(), InstallError> {
    fchmod(root, Mode::RWXU).map_err(InstallError::system("close", b""))?;
    let mut places = Places::new(root);
    for entry in plan.directories.iter().filter_map(|n| plan.entry(*n)) {
        let (directory, name) = places.parent(&entry.path)?;
        match mkdirat(directory, name, Metadata::first_mode(entry)) {
            Ok(()) => {}
            // mkfs makes lost+found, and a subvolume may be there. Anything but a directory is refused.
            Err(Errno::EXIST) => {
                metadata.take_over(open_directory(root, &entry.path)?.as_fd(), entry)?;
            }
            Err(error) => return Err(InstallError::system("create", &entry.path)(error)),
        }
    }
    Ok(())
}

/// Makes one entry that is neither a directory nor a file with content.
pub(super) fn node(
    places: &mut Places<'_>,
    metadata: Metadata,
    entry: &Entry,
) -> Result<(), InstallError> {
    let at = |doing| InstallError::system(doing, &entry.path);
    let first_mode = Metadata::first_mode(entry);
    if let Kind::File(content) = &entry.kind {
        let fd = places.create(&entry.path, first_mode)?;
        if content.size > 0 {
            ftruncate(&fd, content.size).map_err(at("set the length of"))?;
        }
        return metadata.finish(fd.as_fd(), entry);
    }
    let (directory, name) = places.parent(&entry.path)?;
    let made = match &entry.kind {
        Kind::Symlink(target) => symlinkat(target.as_slice(), directory, name),
        Kind::CharDevice(major, minor) => {
            mknodat(directory, name, FileType::CharacterDevice, first_mode, makedev(*major, *minor))
        }
        Kind::BlockDevice(major, minor) => {
            mknodat(directory, name, FileType::BlockDevice, first_mode, makedev(*major, *minor))
        }
        Kind::Fifo => mknodat(directory, name, FileType::Fifo, first_mode, 0),
        Kind::Directory | Kind::File(_) | Kind::Hardlink(_) => Ok(()),
    };
    made.map_err(at("create"))?;
    metadata.finish_node(directory, name, entry, matches!(entry.kind, Kind::Symlink(_)))
}

/// Makes one hard link. Its target's metadata is its own.
pub(super) fn hardlink(
    plan: &Plan<'_>,
    targets: &mut Places<'_>,
    places: &mut Places<'_>,
    entry: &Entry,
) -> Result<(), InstallError> {
    let Kind::Hardlink(target) = entry.kind else { return Ok(()) };
    let Some(target) = plan.entry(target) else { return Ok(()) };
    let (from, old) = targets.parent(&target.path)?;
    let (to, new) = places.parent(&entry.path)?;
    linkat(from, old, to, new, AtFlags::empty()).map_err(InstallError::system("link", &entry.path))
}

/// Gives a directory its metadata, once nothing more is made in it.
pub(super) fn finish_directory(
    root: BorrowedFd<'_>,
    metadata: Metadata,
    entry: &Entry,
) -> Result<(), InstallError> {
    let fd = open_directory(root, &entry.path)?;
    if entry.path.is_empty() {
        metadata.take_over(fd.as_fd(), entry)?;
    }
    metadata.finish(fd.as_fd(), entry)
}
