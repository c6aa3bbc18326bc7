//! Reads files out of a published image.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Index,
    index::{self, Content, PlacedFrame},
    sign::Keys,
};

use crate::archive::{IMAGE, INDEX};

/// An image whose index was checked.
pub struct Image {
    /// Its index.
    pub index: Index,
    /// The CBOR that it was read from; empty for an image that is being made.
    pub cbor: Vec<u8>,
    path: PathBuf,
    file: File,
    frames: Vec<PlacedFrame>,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of it.
    #[error("reading {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its index is not to be trusted, or not to be read.
    #[error("{path}: {source}")]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: index::Error,
    },
    /// Its bytes are not those that were signed.
    #[error("{path} is not what its index says: publish the image again under another version")]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

impl Image {
    /// The image in `folder`, if one of `keys` has signed its index.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn open(folder: &Path, keys: &Keys) -> Result<Self, ImageError> {
        let path = folder.join(INDEX);
        let read = |path: &Path| {
            fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })
        };
        let bytes = read(&path)?;
        let signature = read(&folder.join(format!("{INDEX}.minisig")))?;
        let wrong = |source| ImageError::Index { path: path.clone(), source };
        let signature = String::from_utf8_lossy(&signature);
        let (index, cbor) = Index::open_with_cbor(&bytes, &signature, keys).map_err(wrong)?;
        Ok(Self { cbor, ..Self::with_index(index, &folder.join(IMAGE))? })
    }

    /// The image in the file `path`, of which the index is known.
    ///
    /// # Errors
    /// Those of the file.
    pub fn with_index(index: Index, path: &Path) -> Result<Self, ImageError> {
        let file = File::open(path)
            .map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
        let frames = index.placed_frames().collect();
        Ok(Self { index, cbor: Vec::new(), path: path.to_owned(), file, frames })
    }

    fn damaged(&self) -> ImageError {
        ImageError::Damaged { path: self.path.clone() }
    }

    fn unpack(&self, frame: &PlacedFrame) -> Result<Vec<u8>, ImageError> {
        let mut packed = vec![0; frame.frame.packed as usize];
        self.file
            .read_exact_at(&mut packed, frame.packed_offset)
            .map_err(|source| ImageError::Read { path: self.path.clone(), source })?;
        if !frame.frame.is(&packed) {
            return Err(self.damaged());
        }
        zstd::bulk::decompress(&packed, frame.frame.unpacked as usize).map_err(|_| self.damaged())
    }
}

/// Reads from one image, one file after the other: the last frames are kept, as neighbours lie in the same one.
pub(super) struct Reader<'i> {
    pub(super) image: &'i Image,
    last: Vec<(usize, Vec<u8>)>,
}

/// How many frames are kept.
const KEPT: usize = 4;

impl<'i> Reader<'i> {
    pub(super) fn new(image: &'i Image) -> Self {
        Self { image, last: Vec::new() }
    }

    /// Stored bytes of a file.
    pub(super) fn read(
        &mut self,
        content: &Content,
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let (start, end) = (content.offset + from, content.offset + from + length);
        let mut bytes = Vec::with_capacity(length as usize);
        let frames = &self.image.frames;
        let first = frames.partition_point(|f| f.unpacked_offset <= start).saturating_sub(1);
        for (number, frame) in frames.iter().enumerate().skip(first) {
            if frame.unpacked_offset >= end {
                break;
            }
            let within = |at: u64| {
                at.saturating_sub(frame.unpacked_offset).min(frame.frame.unpacked.into()) as usize
            };
            let part = self.frame(number, frame)?.get(within(start)..within(end));
            bytes.extend_from_slice(part.unwrap_or_default());
        }
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(self.image.damaged()) }
    }

    fn frame(&mut self, number: usize, frame: &PlacedFrame) -> Result<&[u8], ImageError> {
        let place = match self.last.iter().position(|(kept, _)| *kept == number) {
            Some(place) => place,
            None => {
                if self.last.len() >= KEPT {
                    self.last.remove(0);
                }
                self.last.push((number, self.image.unpack(frame)?));
                self.last.len() - 1
            }
        };
        Ok(self.last.get(place).map_or(&[], |(_, bytes)| bytes.as_slice()))
    }
}
