//! Makes the content of one frame: headers from the plan, data from the tree's files.

use std::{io, ops::Range, os::fd::AsFd as _};

use gse_protocol::index::{Content, Kind};
use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags, statx};

use super::{
    error::Error,
    layout::{FramePlan, Layout, write_head},
    scan::{mtime, open_below},
    walk::{Tree, path_of},
};

/// The part of a file's data that lies in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The file's number among the entries.
    pub(super) entry: usize,
    /// Where the bytes are in the frame.
    pub(super) range: Range<usize>,
    /// Whether the file's data begins here.
    pub(super) begins: bool,
    /// Whether it ends here.
    pub(super) ends: bool,
}

/// Fills frames, with buffers of its own.
pub(super) struct Filler<'p> {
    tree: &'p Tree,
    layout: &'p Layout,
    head: Vec<u8>,
    /// The frame's content.
    pub(super) bytes: Vec<u8>,
    /// The files' data in it, in order.
    pub(super) pieces: Vec<Piece>,
}

impl<'p> Filler<'p> {
    pub(super) fn new(tree: &'p Tree, layout: &'p Layout) -> Self {
        let largest = layout.frames.iter().map(FramePlan::len).max().unwrap_or(0);
        Self { tree, layout, head: Vec::new(), bytes: vec![0; largest], pieces: Vec::new() }
    }

    /// The content of the frame is in the first bytes of [`Filler::bytes`] afterwards.
    pub(super) fn fill(&mut self, frame: &FramePlan) -> Result<(), Error> {
        self.pieces.clear();
        // What nothing else is written to is padding.
        self.bytes.clear();
        self.bytes.resize(frame.len(), 0);
        let layout = self.layout;
        let starts = layout.starts.get(frame.first..).unwrap_or_default();
        for (number, place) in (frame.first..).zip(starts.windows(2)) {
            let [start, end] = place else { break };
            if *start >= frame.range.end {
                break;
            }
            let Some(entry) = self.tree.entries.get(number) else { break };
            let content = match &entry.kind {
                Kind::File(content) => Some(content),
                _ => None,
            };
            let data = content.map_or(*end, |c| c.offset);
            if frame.range.start < data {
                self.put_head(frame, number, *start)?;
            }
            if let Some(content) = content.filter(|c| c.stored() > 0) {
                self.put_data(frame, number, content)?;
            }
        }
        Ok(())
    }

    fn put_head(&mut self, frame: &FramePlan, number: usize, start: u64) -> Result<(), Error> {
        self.head.clear();
        write_head(&mut self.head, &self.tree.entries, number)?;
        let whole = start..start + self.head.len() as u64;
        let part = overlap(&whole, &frame.range);
        let from = self.head.get(within(&part, whole.start)).unwrap_or_default();
        if let Some(to) = self.bytes.get_mut(within(&part, frame.range.start)) {
            to.copy_from_slice(from);
        }
        Ok(())
    }

    fn put_data(
        &mut self,
        frame: &FramePlan,
        number: usize,
        content: &Content,
    ) -> Result<(), Error> {
        let whole = content.offset..content.offset + content.stored();
        let part = overlap(&whole, &frame.range);
        if part.is_empty() {
            return Ok(());
        }
        let range = within(&part, frame.range.start);
        let Some(to) = self.bytes.get_mut(range.clone()) else { return Ok(()) };
        read(self.tree, number, content, part.start - whole.start, to)?;
        self.pieces.push(Piece {
            entry: number,
            range,
            begins: part.start == whole.start,
            ends: part.end == whole.end,
        });
        Ok(())
    }
}

/// Reads stored bytes of a file, from `offset` on, and checks that the file is still the one that was
/// listed. It is enough to look afterwards: whoever wrote to it before or meanwhile left a new time.
fn read(
    tree: &Tree,
    number: usize,
    content: &Content,
    offset: u64,
    to: &mut [u8],
) -> Result<(), Error> {
    let Some(entry) = tree.entries.get(number) else { return Ok(()) };
    let changed = |what| Error::Changed { path: path_of(&entry.path), what };
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NOENT.raw_os_error() => changed("vanished"),
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => changed("became a link"),
        _ => Error::Read { doing: "reading", path: path_of(&entry.path), source },
    };
    let file = open_below(tree.root.as_fd(), &entry.path, OFlags::RDONLY).map_err(failed)?;
    let file = std::fs::File::from(file);
    for (start, part) in parts(content, offset, to) {
        std::os::unix::fs::FileExt::read_exact_at(&file, part, start).map_err(
            |source| match source.kind() {
                io::ErrorKind::UnexpectedEof => changed("became shorter"),
                _ => failed(source),
            },
        )?;
    }
    let stat = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map_err(|e| failed(e.into()))?;
    let same = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
        && stat.stx_size == content.size
        && tree.mtime(number) == Some(mtime(&stat));
    if same { Ok(()) } else { Err(changed("changed")) }
}

/// Cuts `to`, which takes stored bytes from `offset` on, at the holes of the file: each part with its
/// offset in the file.
fn parts<'b>(content: &Content, offset: u64, to: &'b mut [u8]) -> Vec<(u64, &'b mut [u8])> {
    let Some(extents) = &content.extents else { return vec![(offset, to)] };
    let (mut skip, mut rest, mut parts) = (offset, to, Vec::new());
    for extent in extents {
        if skip >= extent.length {
            skip -= extent.length;
            continue;
        }
        let length = usize::try_from(extent.length - skip).unwrap_or(usize::MAX).min(rest.len());
        let (part, after) = rest.split_at_mut(length);
        parts.push((extent.offset + skip, part));
        (skip, rest) = (0, after);
        if rest.is_empty() {
            break;
        }
    }
    parts
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// A range that lies in one frame or header, as positions in its bytes.
fn within(range: &Range<u64>, origin: u64) -> Range<usize> {
    let place = |at: u64| at.saturating_sub(origin) as usize;
    place(range.start)..place(range.end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gse_protocol::{Sha256, index::Extent};

    use super::*;

    #[test]
    fn stored_bytes_are_found_between_the_holes() {
        let extents =
            [(10, 5), (100, 3), (200, 8)].map(|(offset, length)| Extent { offset, length });
        let content = Content {
            size: 300,
            offset: 0,
            sha256: Sha256::of(b""),
            extents: Some(extents.to_vec()),
        };
        for (offset, length, want) in [
            (0, 16, vec![(10, 5), (100, 3), (200, 8)]),
            (0, 5, vec![(10, 5)]),
            (3, 4, vec![(13, 2), (100, 2)]),
            (5, 1, vec![(100, 1)]),
            (9, 2, vec![(201, 2)]),
        ] {
            let mut to = vec![0; length];
            let got: Vec<_> =
                parts(&content, offset, &mut to).iter().map(|(at, p)| (*at, p.len())).collect();
            assert_eq!(got, want, "{offset}+{length}");
        }
    }
}
