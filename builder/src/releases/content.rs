//! Single files out of an image.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Index, Sha256,
    index::{Content, Entry, Kind, PlacedFrame},
};

use super::Error;
use crate::file_error::FileError;

/// Reads files of one image. The frame that was needed last is kept: files lie in the order in which they are asked for.
pub(super) struct Reader<'a> {
    path: PathBuf,
    file: File,
    entries: BTreeMap<&'a [u8], &'a Entry>,
    frames: Vec<PlacedFrame>,
    last: Option<(u64, Vec<u8>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn open(image: &Path, index: &'a Index) -> Result<Self, Error> {
        Ok(Self {
            file: File::open(image).map_err(FileError::of("opening", image))?,
            path: image.to_owned(),
            entries: index.entries.iter().map(|entry| (entry.path.as_slice(), entry)).collect(),
            frames: index.placed_frames().collect(),
            last: None,
        })
    }

    /// The text of a file; none if there is no such file.
    pub(super) fn text(&mut self, path: &str) -> Result<Option<String>, Error> {
        let content = match self.entries.get(path.as_bytes()).map(|entry| &entry.kind) {
            Some(Kind::File(content)) if content.extents.is_none() => content,
            _ => return Ok(None),
        };
        let damaged = || Error::Damaged { image: self.path.clone(), path: path.to_owned() };
        let error = damaged();
        let bytes = self.bytes(content).map_err(FileError::of("reading", &self.path))?;
        if Sha256::of(&bytes) != content.sha256 {
            return Err(error);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn bytes(&mut self, content: &Content) -> io::Result<Vec<u8>> {
        let (start, end) = (content.offset, content.offset.saturating_add(content.size));
        let first = self.frames.partition_point(|frame| {
            frame.unpacked_offset.saturating_add(frame.frame.unpacked.into()) <= start
        });
        let mut bytes = Vec::new();
        let frames: Vec<PlacedFrame> = self
            .frames
            .iter()
            .skip(first)
            .take_while(|f| f.unpacked_offset < end)
            .copied()
            .collect();
        for frame in frames {
            let begin = frame.unpacked_offset;
            let unpacked = self.frame(&frame)?;
            let from = usize::try_from(start.saturating_sub(begin)).map_err(io::Error::other)?;
            let to = usize::try_from(end.saturating_sub(begin)).map_err(io::Error::other)?;
            bytes.extend(unpacked.get(from..to.min(unpacked.len())).unwrap_or_default());
        }
        Ok(bytes)
    }

    fn frame(&mut self, frame: &PlacedFrame) -> io::Result<&[u8]> {
        let known = self.last.take().filter(|(at, _)| *at == frame.packed_offset);
        let (at, unpacked) = match known {
            Some(known) => known,
            None => {
                let length = usize::try_from(frame.frame.packed).map_err(io::Error::other)?;
                let mut packed = vec![0; length];
                self.file.read_exact_at(&mut packed, frame.packed_offset)?;
                let most = usize::try_from(frame.frame.unpacked).map_err(io::Error::other)?;
                // Before it is unpacked: what is not the signed frame is not looked into.
                if Sha256::of(&packed) != frame.frame.sha256 {
                    return Err(io::Error::other("a part of it is not what the index says"));
                }
                (frame.packed_offset, zstd::bulk::decompress(&packed, most)?)
            }
        };
        Ok(&self.last.insert((at, unpacked)).1)
    }
}
