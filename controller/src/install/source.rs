//! Where the frames of an image come from.

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _};

use gse_protocol::index::PlacedFrame;

use super::SourceError;

/// Gives the packed bytes of frames. They need not be right: whoever asks checks them.
///
/// Frames are asked for in their order, so a source can stream; only a frame whose bytes were wrong is
/// read again, out of order.
pub trait FrameSource: Send {
    /// Which parts of the file will be read, in order and apart, as far as that is known.
    fn expect(&mut self, runs: Vec<Range<u64>>) {
        let _ = runs;
    }

    /// Whether runs come quicker side by side.
    fn can_split(&mut self) -> bool {
        false
    }

    /// So many sources of the same file, which know of the runs, to be read from side by side; none if it cannot be
    /// split.
    fn split(&mut self, into: usize) -> Vec<&mut dyn FrameSource> {
        let _ = into;
        Vec::new()
    }

    /// Fills `packed` with exactly the frame's packed bytes.
    fn read_frame(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError>;

    /// Reads a frame whose bytes were wrong again, from each place that may have it, until they are right. Whether they
    /// are.
    fn read_again(
        &mut self,
        frame: &PlacedFrame,
        packed: &mut Vec<u8>,
    ) -> Result<bool, SourceError> {
        self.read_frame(frame, packed)?;
        Ok(frame.frame.is(packed))
    }
}

/// An image in a local file: a mounted disk, a USB stick, a test.
#[derive(Debug)]
pub struct FileSource(File);

impl FileSource {
    /// Reads from `file`, which holds `system.tar.zst`.
    pub fn new(file: File) -> Self {
        Self(file)
    }
}

impl FrameSource for FileSource {
    fn read_frame(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError> {
        packed.resize(frame.frame.packed as usize, 0);
        Ok(self.0.read_exact_at(packed, frame.packed_offset)?)
    }
}
