//! Content that is made from files of a local tree, by the binary patches of a patch file.
//!
//! A patch is only believed by what comes out of it: the digest of the file that it makes.

use std::os::fd::{AsFd as _, OwnedFd};

use gse_protocol::{
    Index,
    index::Content,
    patch::{PatchFile, Piece, Run, Step, Table, read_number},
};

use super::{
    FrameSource, InstallError, Seed, SourceError,
    frames::{decompressor, unpack},
    local::Reader,
    plan,
    reading::{Ahead, read},
};

/// How much of a base is in memory at once: patches go forth and back in it, mostly by little.
const WINDOW: usize = 256 << 10;
/// How much of it is from before the place that is wanted.
const BEHIND: u64 = 32 << 10;

/// A patch file whose table was read, and the local tree that it starts from.
pub struct Patch<'p> {
    pub(super) file: &'p PatchFile,
    pub(super) seed: &'p Seed<'p>,
    /// In the order of the file.
    pub(super) pieces: Vec<Placed>,
    /// By the position in the newer index.
    made: Vec<bool>,
}

/// A piece, and where everything of it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) piece: Piece,
    /// Where it starts in the unpacked frames.
    pub(super) at: u64,
    /// Where what it makes starts in the file's stored bytes.
    pub(super) from: u64,
}

impl<'p> Patch<'p> {
    /// Fetches the table of `file`, which the index `new` lists for the image that `seed` has, and reads it.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what was signed.
    pub fn open(
        file: &'p PatchFile,
        new: &Index,
        seed: &'p Seed<'p>,
        source: &mut dyn FrameSource,
    ) -> Result<Self, InstallError> {
        let mut table = Vec::new();
        let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
        let mut zstd = decompressor()?;
        let frames: Vec<_> = file.placed_frames().take(file.table as usize).collect();
        // Or the rest would be on its way before it is known what of it is wanted.
        source.expect(frames.last().map(|last| 0..last.packed_range().end).into_iter().collect());
        for (number, frame) in frames.into_iter().enumerate() {
            source.read_frame(&frame, &mut packed)?;
            if !frame.frame.is(&packed) && !source.read_again(&frame, &mut packed)? {
                return Err(InstallError::Frame { number });
            }
            unpack(&mut zstd, number, &frame, &packed, &mut unpacked)?;
            table.extend_from_slice(&unpacked);
        }
        let start = table.len() as u64;
        let table = Table::parse(&table, file, new, seed.index).map_err(SourceError::new)?;
        let mut at = start;
        let mut made = vec![0; new.entries.len()];
        let pieces = table.pieces.iter().map(|piece| {
            let made = made.get_mut(piece.entry as usize);
            let from = made.map_or(0, |made| {
                *made += u64::from(piece.makes);
                *made - u64::from(piece.makes)
            });
            let placed = Placed { piece: *piece, at, from };
            at += u64::from(piece.takes);
            placed
        });
        let pieces = pieces.collect();
        Ok(Self { file, seed, pieces, made: made.into_iter().map(|made| made > 0).collect() })
    }

    /// Whether it makes the file with this position in the newer index.
    pub(super) fn makes(&self, number: u32) -> bool {
        self.made.get(number as usize).is_some_and(|made| *made)
    }
}

/// What one thread needs to apply patches.
pub(super) struct Bases<'p> {
    index: &'p Index,
    reader: Reader<'p>,
    open: Option<(u32, OwnedFd)>,
    window: Vec<u8>,
    /// Where the window starts, in the stored bytes of the open file.
    start: u64,
}

impl<'p> Bases<'p> {
    pub(super) fn new(seed: &'p Seed<'p>) -> Self {
        let reader = Reader::new(seed);
        Self { index: seed.index, reader, open: None, window: Vec::new(), start: 0 }
    }

    /// Says that these pieces will be made, each with where it starts in its file: most of what it takes from its base is
    /// at the same place there.
    pub(super) fn expect<'e>(&mut self, pieces: impl Iterator<Item = (&'e Piece, u64)>) {
        let mut ahead = Ahead::default();
        for (piece, from) in pieces {
            if let Some(base) = piece.base {
                self.reader.expect(&mut ahead, base, from, piece.makes.into());
            }
        }
    }

    /// Makes the bytes of `piece` out of `patch`. If the base is not what it was, or the patch is wrong, zeros may come
    /// out: whoever asks looks at the digest.
    pub(super) fn apply(&mut self, piece: &Piece, patch: &[u8]) -> Vec<u8> {
        let mut made = Vec::with_capacity(piece.makes as usize);
        let base = piece.base.and_then(|base| Some((base, plan::file(self.index, base)?.1)));
        match base {
            // Only what the capacity holds is made.
            Some((number, content)) => drop(self.steps(number, content, patch, &mut made)),
            None => made.extend_from_slice(patch),
        }
        made.resize(piece.makes as usize, 0);
        made
    }

    /// Does all steps, and then all runs; `None` if something is not as it should be.
    fn steps(
        &mut self,
        number: u32,
        base: &Content,
        mut patch: &[u8],
        made: &mut Vec<u8>,
    ) -> Option<()> {
        let steps = read_number(&mut patch)?;
        let mut layout = patch;
        for _ in 0..steps {
            Step::read(&mut patch)?;
        }
        let runs = read_number(&mut patch)?;
        let (mut changes, mut changed) = (patch, 0_usize);
        for _ in 0..runs {
            changed = changed.checked_add(Run::read(&mut patch)?.change as usize)?;
        }
        let (mut adds, mut inserts) = patch.split_at_checked(changed)?;
        let mut at = 0_u64;
        for _ in 0..steps {
            let step = Step::read(&mut layout)?;
            at = at.checked_add_signed(step.seek)?;
            let insert = take(&mut inserts, step.insert)?;
            let mut left = step.copy as usize;
            if made.len() + left + insert.len() > made.capacity() {
                return None;
            }
            while left > 0 {
                let old = self.read(number, base, at)?;
                let old = old.get(..left).unwrap_or(old);
                made.extend_from_slice(old);
                left -= old.len();
                at += old.len() as u64;
            }
            made.extend_from_slice(insert);
        }
        let mut rest = made.as_mut_slice();
        for _ in 0..runs {
            let run = Run::read(&mut changes)?;
            let (_, from_here) =
                std::mem::take(&mut rest).split_at_mut_checked(run.keep as usize)?;
            let (here, after) = from_here.split_at_mut_checked(run.change as usize)?;
            for (byte, add) in here.iter_mut().zip(take(&mut adds, run.change)?) {
                *byte = byte.wrapping_add(*add);
            }
            rest = after;
        }
        Some(())
    }

    /// Some stored bytes of the base from `at` on, at least one.
    fn read(&mut self, number: u32, base: &Content, at: u64) -> Option<&[u8]> {
        let stored = base.stored();
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = Some((number, self.reader.open(number).ok()?));
            self.window.clear();
        }
        let inside = |start: u64, length: usize| start <= at && at < start + length as u64;
        if !inside(self.start, self.window.len()) {
            let (_, file) = self.open.as_ref()?;
            self.start = at.saturating_sub(BEHIND);
            let length = stored.checked_sub(self.start)?.min(WINDOW as u64);
            self.window.resize(usize::try_from(length).ok()?, 0);
            if read(file.as_fd(), base, self.start, &mut self.window).is_err() {
                self.window.clear();
            }
        }
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.window.get(from..).filter(|bytes| !bytes.is_empty())
    }
}

/// Takes the first bytes away.
fn take<'b>(from: &mut &'b [u8], length: u32) -> Option<&'b [u8]> {
    let (taken, rest) = from.split_at_checked(length as usize)?;
    *from = rest;
    Some(taken)
}
