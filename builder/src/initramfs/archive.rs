//! Packs a tree into what the kernel unpacks: a row of cpio archives (newc), each compressed with zstd.
//!
//! Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Each archive has a trailer of its
//! own, so each can be compressed by another core, and read by the kernel as soon as it gets there. Where
//! one ends is decided by sizes alone, so the image is the same whatever number of cores made it.

use std::io::{self, Write as _};

use cpio::newc::{Builder, ModeFileType, trailer};
use zstd::zstd_safe::CParameter;

use super::{
    Error, parallel,
    tree::{Category, Node, Tree},
};

/// How an image is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// zstd level.
    pub(super) level: i32,
    /// Bytes of content after which another archive is begun.
    pub(super) segment: usize,
}

impl Default for Effort {
    /// Measured with a stock kernel's modules on four cores. Level 6 is a third quicker and makes the image 6 %
    /// larger, level 12 takes twice as long for 1 %, level 19 twenty times for 12 %. Smaller segments lose what
    /// drivers have in common (4 MiB: 4 %), larger ones leave cores idle at the end and gain nothing.
    fn default() -> Self {
        Self { level: 9, segment: 8 << 20 }
    }
}

/// An archive of the row.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) category: Category,
    /// Number of files.
    pub(super) files: usize,
    /// Bytes of content.
    pub(super) plain: u64,
    pub(super) bytes: Vec<u8>,
}

struct Segment<'t> {
    category: Category,
    first_inode: u32,
    entries: Vec<(&'t str, &'t Node)>,
    size: usize,
}

/// Packs the tree on all cores. `time` (seconds since 1970) is the time of every file.
pub(super) fn pack(tree: &Tree, time: u32, effort: Effort) -> Result<Vec<Packed>, Error> {
    let segments = segments(tree, effort.segment);
    parallel::map_largest_first(&segments, |s| s.size, |s| s.pack(time, effort.level))
}

impl Segment<'_> {
    fn pack(&self, time: u32, level: i32) -> Result<Packed, Error> {
        let Self { category, size, .. } = *self;
        let failed = |source| Error::Pack { what: format!("the {category:?} part"), source };
        let archive = archive(self, time).map_err(failed)?;
        let bytes = compress(&archive, level).map_err(failed)?;
        let files = self.entries.iter().filter(|(_, n)| matches!(n, Node::File { .. })).count();
        Ok(Packed { category, files, plain: size as u64, bytes })
    }
}

fn segments(tree: &Tree, limit: usize) -> Vec<Segment<'_>> {
    let mut segments: Vec<Segment<'_>> = Vec::new();
    for (inode, (category, path, node)) in (1..).zip(tree.iter()) {
        let size = node.content().len();
        match segments.last_mut() {
            Some(last) if last.category == category && last.size + size <= limit => {
                last.entries.push((path, node));
                last.size += size;
            }
            _ => {
                let entries = vec![(path, node)];
                segments.push(Segment { category, first_inode: inode, entries, size });
            }
        }
    }
    segments
}

fn archive(segment: &Segment<'_>, time: u32) -> io::Result<Vec<u8>> {
    let mut archive = Vec::with_capacity(segment.size + segment.entries.len() * 256);
    for (inode, (path, node)) in (segment.first_inode..).zip(&segment.entries) {
        append(&mut archive, inode, path, node, time)?;
    }
    trailer(&mut archive)?;
    Ok(archive)
}

fn append(archive: &mut Vec<u8>, inode: u32, path: &str, node: &Node, time: u32) -> io::Result<()> {
    let entry = Builder::new(path).ino(inode).mtime(time);
    let entry = match node {
        Node::Directory { mode } => {
            entry.mode(*mode).nlink(2).set_mode_file_type(ModeFileType::Directory)
        }
        Node::File { mode, .. } => entry.mode(*mode).set_mode_file_type(ModeFileType::Regular),
        Node::Link { .. } => entry.mode(0o777).set_mode_file_type(ModeFileType::Symlink),
        Node::Device { mode, major, minor } => entry
            .mode(*mode)
            .rdev_major(*major)
            .rdev_minor(*minor)
            .set_mode_file_type(ModeFileType::Char),
    };
    let content = node.content();
    let size = u32::try_from(content.len()).map_err(|_| {
        io::Error::other(format!("/{path} has more than 4 GiB, which a cpio archive cannot hold"))
    })?;
    let mut writer = entry.write(archive, size);
    writer.write_all(content)?;
    writer.finish().map(drop)
}

fn compress(archive: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    // The kernel checks it, so a bad disk is a message and not a machine that fails in odd ways.
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    // The whole segment, so that a driver is compressed with what the others of its kind have in common.
    compressor.set_parameter(CParameter::WindowLog(24))?;
    // Tables that remember all of it, and shorter matches: modules are 1 % smaller for a tenth of the time more.
    compressor.set_parameter(CParameter::HashLog(22))?;
    compressor.set_parameter(CParameter::ChainLog(22))?;
    compressor.set_parameter(CParameter::SearchLog(5))?;
    compressor.set_parameter(CParameter::MinMatch(4))?;
    compressor.compress(archive)
}

/// Where an archive that follows another begins: boot loaders and the kernel want multiples of four; 512 is
/// cpio's own block.
const BLOCK: usize = 512;

/// An uncompressed archive with these files, filled up to a whole block.
pub(super) fn plain(tree: &Tree, time: u32) -> Result<Packed, Error> {
    let entries: Vec<_> = tree.iter().map(|(_, path, node)| (path, node)).collect();
    let files = entries.iter().filter(|(_, n)| matches!(n, Node::File { .. })).count();
    let size = entries.iter().map(|(_, n)| n.content().len()).sum();
    let category = Category::Microcode;
    let segment = Segment { category, first_inode: 1, entries, size };
    let failed = |source| Error::Pack { what: "the microcode".to_owned(), source };
    let mut bytes = archive(&segment, time).map_err(failed)?;
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Ok(Packed { category, files, plain: size as u64, bytes })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        for n in 0..50_u8 {
            let bytes = vec![n; usize::from(n) * 1000];
            tree.insert(&format!("lib/modules/{n:02}"), Category::Modules, Node::file(bytes));
        }
        tree
    }

    #[test]
    fn segments_end_by_size_and_category_and_lose_nothing() {
        let tree = tree();
        let segments = segments(&tree, 100_000);
        let entries: usize = segments.iter().map(|s| s.entries.len()).sum();
        assert_eq!(entries, tree.iter().count());
        assert!(segments.len() > 12);
        assert!(segments.iter().all(|s| s.size <= 100_000));
        let mut inode = 1;
        for segment in &segments {
            assert_eq!(segment.first_inode, inode);
            inode += u32::try_from(segment.entries.len()).unwrap();
        }
    }

    #[test]
    fn a_file_larger_than_a_segment_is_one() {
        let tree = tree();
        let segments = segments(&tree, 10);
        assert_eq!(segments.last().map(|s| s.entries.len()), Some(1));
    }
}
