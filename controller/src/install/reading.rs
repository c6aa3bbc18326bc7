//! The content of a file in a local tree, which is believed by its digest alone.

use std::{
    num::NonZero,
    os::fd::{BorrowedFd, OwnedFd},
};

use gse_protocol::{digest::Hasher, index::Content};
use rustix::{
    fs::{Advice, AtFlags, FileType, Mode, OFlags, Stat, fadvise, fstat, openat, statat},
    io::{Errno, pread},
};

use super::{Damage, file::runs, place::Places};

/// How many bytes of a file are in memory at once, for each thread.
pub(super) const BUFFER: usize = 1 << 20;

/// Opens a file to read it. Nothing but a regular file of the right length is opened: that would wait
/// for a pipe's other end, or start what a device does.
pub(super) fn open(
    places: &mut Places<'_>,
    path: &[u8],
    content: &Content,
) -> Result<OwnedFd, Damage> {
    let (directory, name) = places.find(path).map_err(Damage::opening)?;
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Damage::opening)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Damage::Kind);
    }
    has_length(&stat, content)?;
    let flags = OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOATIME
        | OFlags::CLOEXEC
        | OFlags::LARGEFILE;
    openat(directory, name, flags, Mode::empty()).map_err(Damage::opening)
}

fn has_length(stat: &Stat, content: &Content) -> Result<(), Damage> {
    let found = u64::try_from(stat.st_size).unwrap_or(0);
    if found == content.size {
        Ok(())
    } else {
        Err(Damage::Length { expected: content.size, found })
    }
}

/// What the disk is to begin with: so it has the files of a whole run to work at, where a thread asks for one of them and
/// waits.
pub(super) struct Ahead {
    /// How many more bytes: what is read too early needs room until it is used, and a machine may have little.
    left: u64,
}

impl Default for Ahead {
    /// For one thread, and what it does next.
    fn default() -> Self {
        Self { left: 8 << 20 }
    }
}

impl Ahead {
    pub(super) fn has_room(&self) -> bool {
        self.left > 0
    }

    /// These bytes of the file will be read. What is behind the first buffer, the kernel reads ahead by itself.
    pub(super) fn expect(&mut self, file: BorrowedFd<'_>, from: u64, length: u64) {
        let length = length.min(BUFFER as u64).min(self.left);
        self.left -= length;
        // Without this, it is only slower.
        let _ = fadvise(file, from, NonZero::new(length), Advice::WillNeed);
    }
}

/// Reads a file a buffer at a time, to know whether it has the content, and nothing behind it.
pub(super) fn check(
    file: BorrowedFd<'_>,
    content: &Content,
    buffer: &mut [u8],
) -> Result<(), Damage> {
    has_length(&fstat(file).map_err(Damage::Unreadable)?, content)?;
    stream(file, content, buffer, |_, _| Ok(()))
}

/// Fills `bytes` with the stored bytes from `from` on.
pub(super) fn read(
    source: BorrowedFd<'_>,
    content: &Content,
    from: u64,
    bytes: &mut [u8],
) -> Result<(), Damage> {
    for run in runs(content, from, bytes.len()) {
        let (mut left, mut at) = (bytes.get_mut(run.range).unwrap_or_default(), run.at);
        while !left.is_empty() {
            match pread(source, &mut *left, at) {
                // It became shorter since it was opened.
                Ok(0) => return Err(Damage::Length { expected: content.size, found: at }),
                Ok(n) => {
                    left = left.get_mut(n..).unwrap_or_default();
                    at += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Damage::Unreadable(error)),
            }
        }
    }
    Ok(())
}

/// Reads the content, a buffer at a time, and hands each piece on with its place among the stored bytes.
///
/// # Errors
/// [`Damage::Content`] at the end if the digest is another, and whatever `take` fails with.
pub(super) fn stream<E: From<Damage>>(
    source: BorrowedFd<'_>,
    content: &Content,
    buffer: &mut [u8],
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut hasher = Hasher::default();
    let (mut at, stored) = (0, content.stored());
    while at < stored {
        let length = usize::try_from(stored - at).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = buffer.get_mut(..length).unwrap_or_default();
        read(source, content, at, bytes)?;
        hasher.update(bytes);
        take(at, bytes)?;
        at += length as u64;
    }
    if hasher.finish() == content.sha256 { Ok(()) } else { Err(Damage::Content.into()) }
}
