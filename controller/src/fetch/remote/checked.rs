//! What comes of a remote file is checked by whoever reads it; what is wrong is read again.

use std::{io, ops::Range};

use gse_protocol::index::PlacedFrame;

use super::{Problem, RemoteError, RemoteImage};
use crate::install::{FrameSource, SourceError};

/// Reads from an image, and says whether what came is right.
type ReadAndCheck<'r> = dyn FnMut(&mut RemoteImage<'_>) -> io::Result<bool> + 'r;

impl RemoteImage<'_> {
    /// The frame's bytes, right or not.
    fn fill(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), RemoteError> {
        self.go_to(frame.packed_offset)?;
        packed.resize(frame.frame.packed as usize, 0);
        let mut filled = 0;
        while let Some(buffer) = packed.get_mut(filled..).filter(|b| !b.is_empty()) {
            match self.read_some(buffer)? {
                0 => {
                    let size = self.size;
                    let last = Problem::Cut { got: size, expected: frame.packed_range().end }
                        .at(&self.path);
                    return Err(RemoteError { at: size, size, last });
                }
                got => filled += got,
            }
        }
        Ok(())
    }

    /// Has `read` read the whole file from its start, and say whether it is right; as long as it is not, again from one
    /// server after the other. Whether it came out right.
    ///
    /// # Errors
    /// A [`RemoteError`], if it cannot be had; and those of `read`.
    pub fn whole(&mut self, read: &mut ReadAndCheck<'_>) -> io::Result<bool> {
        Ok(read(self)? || self.again(0..self.size, read)?)
    }

    /// Reads a part that came out wrong again, from each server alone: of what several have sent, nobody knows who has
    /// lied. Whoever has it right is read from then on.
    fn again(&mut self, part: Range<u64>, read: &mut ReadAndCheck<'_>) -> io::Result<bool> {
        let fit = |number: &usize| self.servers.get(*number).is_some_and(|s| !s.unfit);
        let mut order: Vec<usize> = self.others_first().filter(fit).collect();
        order.sort_by_key(|number| !self.is_free(*number));
        let mut error = Problem::Forged.at(&self.url());
        for number in order {
            self.go_to_server(number, &error, part.start);
            let mut alone = self.another();
            alone.servers = self.servers.get(number).cloned().into_iter().collect();
            (alone.current, alone.away, alone.failures, alone.fresh) = (0, None, 0, 0);
            (alone.at, alone.runs) = (part.start, vec![part.clone()]);
            let done = read(&mut alone);
            self.received += alone.received;
            error = match done {
                Ok(true) => return Ok(true),
                Ok(false) => Problem::Forged.at(&self.url()),
                Err(e) => e.downcast::<RemoteError>()?.last,
            };
        }
        Ok(false)
    }
}

impl FrameSource for RemoteImage<'_> {
    fn expect(&mut self, runs: Vec<Range<u64>>) {
        self.finish();
        self.runs = runs;
        self.stream = None;
    }

    fn can_split(&mut self) -> bool {
        self.at = self.runs.first().map_or(0, |run| run.start);
        // What is wrong with the server is looked at when it is read from.
        self.stream = self.open().ok();
        // One without ranges would send all of the file on each.
        self.stream.is_some() && self.until < self.size
    }

    fn split(&mut self, into: usize) -> Vec<&mut dyn FrameSource> {
        self.others = (0..into).map(|_| self.another()).collect();
        if let Some(first) = self.others.first_mut() {
            first.stream = self.stream.take();
        }
        self.others.iter_mut().map(|other| other as _).collect()
    }

    fn read_frame(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError> {
        self.fill(frame, packed).map_err(SourceError::new)
    }

    fn read_again(
        &mut self,
        frame: &PlacedFrame,
        packed: &mut Vec<u8>,
    ) -> Result<bool, SourceError> {
        let again = self.again(frame.packed_range(), &mut |one| {
            one.fill(frame, packed).map_err(io::Error::other)?;
            Ok(frame.frame.is(packed))
        });
        Ok(again?)
    }
}
