//! One regular file of the new tree, wherever its content comes from: made, filled around its holes,
//! and given its metadata.

use std::{
    ops::Range,
    os::fd::{BorrowedFd, OwnedFd},
};

use gse_protocol::index::{Content, Entry};
use rustix::{
    fs::ftruncate,
    io::{Errno, pwrite},
};

use super::{InstallError, metadata::Metadata, place::Places};

/// A run of a file's bytes: where in the stored bytes, and where in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Within the given part.
    pub(super) range: Range<usize>,
    /// In the file.
    pub(super) at: u64,
}

/// Where `length` stored bytes from `from` on are in the file: around its holes, if it has any.
pub(super) fn runs(content: &Content, from: u64, length: usize) -> impl Iterator<Item = Run> + '_ {
    let to = from + length as u64;
    let whole = content.extents.is_none().then_some(Run { range: 0..length, at: from });
    let mut before = 0;
    let pieces = content.extents.iter().flatten().filter_map(move |extent| {
        let start = before;
        before += extent.length;
        let first = start.max(from);
        let last = before.min(to);
        (first < last).then(|| Run {
            range: (first - from) as usize..(last - from) as usize,
            at: extent.offset + (first - start),
        })
    });
    whole.into_iter().chain(pieces)
}

/// Makes the file, empty and to be written.
pub(super) fn create(places: &mut Places<'_>, entry: &Entry) -> Result<OwnedFd, InstallError> {
    places.create(&entry.path, Metadata::first_mode(entry))
}

/// Writes stored bytes, from `from` on, to where they belong in the file.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    entry: &Entry,
    content: &Content,
    from: u64,
    bytes: &[u8],
) -> Result<(), InstallError> {
    for run in runs(content, from, bytes.len()) {
        let (mut left, mut at) = (bytes.get(run.range).unwrap_or_default(), run.at);
        while !left.is_empty() {
            match pwrite(fd, left, at) {
                Ok(0) => return Err(InstallError::system("write", &entry.path)(Errno::IO)),
                Ok(n) => {
                    left = left.get(n..).unwrap_or_default();
                    at += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(InstallError::system("write", &entry.path)(error)),
            }
        }
    }
    Ok(())
}

/// Gives the file its length and its metadata, once all of its bytes are written.
pub(super) fn finish(
    metadata: Metadata,
    fd: BorrowedFd<'_>,
    entry: &Entry,
    content: &Content,
) -> Result<(), InstallError> {
    if content.extents.is_some() {
        // It may end in a hole.
        ftruncate(fd, content.size)
            .map_err(InstallError::system("set the length of", &entry.path))?;
    }
    metadata.finish(fd, entry)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use gse_protocol::{Sha256, index::Extent};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_put_each_stored_byte_where_its_extent_is(
            extents in prop::collection::vec((0_u64..50, 1_u64..50), 0..8),
            cuts in prop::collection::vec(1_usize..60, 0..8),
        ) {
            let mut at = 0;
            let extents: Vec<Extent> = extents.into_iter().map(|(hole, length)| {
                let offset = at + hole;
                at = offset + length;
                Extent { offset, length }
            }).collect();
            let wanted: Vec<u64> =
                extents.iter().flat_map(|e| e.offset..e.offset + e.length).collect();
            let content =
                Content { size: at, offset: 0, sha256: Sha256([0; 32]), extents: Some(extents) };
            let mut found = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let length = cut.min(wanted.len() - from);
                for run in runs(&content, from as u64, length) {
                    prop_assert_eq!(run.range.start, found.len() - from);
                    found.extend(run.range.clone().zip(run.at..).map(|(_, at)| at));
                    prop_assert_eq!(found.len() - from, run.range.end);
                }
                from += length;
            }
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_file_without_holes_is_one_run() {
        let content = Content { size: 9, offset: 0, sha256: Sha256([0; 32]), extents: None };
        assert_eq!(runs(&content, 4, 5).collect::<Vec<_>>(), [Run { range: 0..5, at: 4 }]);
    }
}
