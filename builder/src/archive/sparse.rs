//! Finds the holes of a sparse file.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use gse_protocol::index::Extent;
use rustix::{
    fs::{Mode, OFlags, SeekFrom, Statx, openat, seek},
    io::Errno,
};

use super::header::BLOCK;

/// The parts of a file that hold data, or `None` if it has no holes.
pub(super) fn extents(
    directory: BorrowedFd<'_>,
    name: &CStr,
    stat: &Statx,
) -> rustix::io::Result<Option<Vec<Extent>>> {
    // The kernel counts in units of 512 bytes. Most files end here, without being opened.
    if stat.stx_blocks.saturating_mul(512) >= stat.stx_size {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(directory, name, flags, Mode::empty())?;
    let mut found = Vec::new();
    let mut position = 0;
    while position < stat.stx_size {
        let start = match seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // The rest is a hole.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        position = seek(file.as_fd(), SeekFrom::Hole(start))?.max(start + 1);
        found.push(Extent { offset: start, length: position - start });
    }
    Ok(in_blocks(&found, stat.stx_size))
}

/// Widens the parts to whole blocks of the tar, and joins those that touch. GNU tar fills each part up
/// to a block and libarchive does not: they agree where there is nothing to fill, and after the last
/// part. `None` if no hole remains.
fn in_blocks(found: &[Extent], size: u64) -> Option<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    for extent in found {
        let start = extent.offset - extent.offset % BLOCK;
        let end = (extent.offset + extent.length).next_multiple_of(BLOCK).min(size);
        match extents.last_mut() {
            Some(last) if last.offset + last.length >= start => {
                last.length = end.max(last.offset + last.length) - last.offset;
            }
            _ if start < end => extents.push(Extent { offset: start, length: end - start }),
            _ => {}
        }
    }
    (extents != [Extent { offset: 0, length: size }]).then_some(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(parts: &[(u64, u64)]) -> Vec<Extent> {
        parts.iter().map(|(offset, length)| Extent { offset: *offset, length: *length }).collect()
    }

    #[test]
    fn parts_are_widened_to_blocks_and_joined_where_they_touch() {
        for (found, size, want) in [
            (&[(4096, 4096)][..], 10_000, Some(vec![(4096, 4096)])),
            (&[(4096, 5904)], 10_000, Some(vec![(4096, 5904)])),
            (&[(100, 10), (600, 10), (2000, 1)], 4000, Some(vec![(0, 1024), (1536, 512)])),
            (&[(100, 10), (512, 88)], 600, None),
            (&[(0, 600)], 600, None),
            (&[], 600, Some(vec![])),
        ] {
            let want = want.map(|w| extents(&w));
            assert_eq!(in_blocks(&extents(found), size), want, "{found:?}");
        }
    }
}
