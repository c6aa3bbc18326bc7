//! `from-<version>.patch`: what makes the files of one image out of those of an older one.
//!
//! The file is a row of zstd frames, which the newer image's signed index lists with their digests. The first of
//! them unpack to the [`Table`], which is CBOR; the others to the pieces that the table names, one after the other. A
//! piece makes some bytes of one file, and lies in one frame, so frames can be handled in any order and memory
//! stays bounded.
//!
//! A piece with a base is a binary patch of bsdiff's family (<https://www.daemonology.net/papers/bsdiff.pdf>): the
//! number of its [`Step`]s, the steps, the number of its [`Run`]s, the runs, what the runs add, and what the steps insert.
//! The steps lay out the bytes that it makes, and the runs then change some of them: of code that was compiled anew,
//! few bytes in a hundred. All numbers are LEB128, the first of each step zigzag. A piece without a base is the bytes
//! themselves.

use minicbor::{Decode, Encode};

use crate::{
    Index, Sha256,
    index::{Content, Error, Frame, Kind, PlacedFrame, placed},
};

/// The most bytes of a file that one piece makes.
pub const MAX_PIECE: u32 = 2 << 20;
/// The most frames of the table, each of at most [`crate::index::MAX_FRAME`] bytes.
pub const MAX_TABLE: u32 = 4;

/// A patch file, as the index of the newer image lists it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PatchFile {
    /// The older version, after which the file is named.
    #[n(0)]
    pub version: String,
    /// Of the older version's `index.cbor.zst`, whose entries the table counts.
    #[n(1)]
    pub index: Sha256,
    /// How many of the frames are the table.
    #[n(2)]
    pub table: u32,
    /// In the order of the file, without gaps.
    #[n(3)]
    pub frames: Vec<Frame>,
}

impl PatchFile {
    /// Its name, in the folder of the newer image.
    pub fn name(version: &str) -> String {
        format!("from-{version}.patch")
    }

    /// Each frame with its place, in order.
    pub fn placed_frames(&self) -> impl Iterator<Item = PlacedFrame> + '_ {
        placed(&self.frames)
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.frames.iter().map(|f| u64::from(f.packed)).sum()
    }
}

/// What is in a patch file, in the order of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Table {
    /// Those of one file follow each other in the order of its bytes, perhaps with others in between.
    #[n(0)]
    pub pieces: Vec<Piece>,
}

/// Makes some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Piece {
    /// The file, by its position in the newer index.
    #[n(0)]
    pub entry: u32,
    /// How many of its stored bytes this makes: the next ones.
    #[n(1)]
    pub makes: u32,
    /// How many bytes of the unpacked frames the piece takes.
    #[n(2)]
    pub takes: u32,
    /// The file that it is a patch of, by its position in the older index.
    #[n(3)]
    pub base: Option<u32>,
}

impl Table {
    /// Reads the unpacked table of `patch`, whose frames were checked by their digests.
    ///
    /// # Errors
    /// It is not what a table for these indices can be.
    pub fn parse(bytes: &[u8], patch: &PatchFile, new: &Index, old: &Index) -> Result<Self, Error> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let table: Self = decoder.decode().map_err(|e| Error::Cbor(e.to_string()))?;
        match table.check(patch, new, old) {
            Ok(()) => Ok(table),
            Err(why) => Err(Error::Patch { version: patch.version.clone(), why }),
        }
    }

    /// What the installer relies on: pieces of files that there are, which make each of them whole; out of
    /// files that there are; and each in one frame.
    fn check(&self, patch: &PatchFile, new: &Index, old: &Index) -> Result<(), &'static str> {
        let mut made = vec![0_u64; new.entries.len()];
        let mut frames = patch.frames.iter().skip(patch.table as usize);
        let mut left = 0;
        for piece in &self.pieces {
            if stored(new, piece.entry).is_none() {
                return Err("makes something that is no file");
            }
            if piece.base.is_some_and(|base| stored(old, base).is_none()) {
                return Err("is made from something that is no file");
            }
            if piece.makes == 0 || piece.makes > MAX_PIECE {
                return Err("has a piece that is too large, or empty");
            }
            if piece.base.is_none() && piece.takes != piece.makes {
                return Err("has a piece of another length than the bytes it makes");
            }
            if left == 0 {
                left = frames.next().map_or(0, |frame| frame.unpacked);
            }
            left = left
                .checked_sub(piece.takes)
                .filter(|_| piece.takes > 0)
                .ok_or("has a piece that does not lie in one frame")?;
            if let Some(made) = made.get_mut(piece.entry as usize) {
                *made += u64::from(piece.makes);
            }
        }
        if left > 0 || frames.next().is_some() {
            return Err("has frames without pieces");
        }
        let whole = (0..).zip(made).all(|(number, made)| {
            made == 0 || stored(new, number).is_some_and(|content| content.stored() == made)
        });
        if whole { Ok(()) } else { Err("does not make a file whole") }
    }
}

/// The content of a file of the index.
fn stored(index: &Index, number: u32) -> Option<&Content> {
    match &index.entries.get(number as usize)?.kind {
        Kind::File(content) => Some(content),
        _ => None,
    }
}

/// Lays out the next bytes of what a patch makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How far to move in the base before.
    pub seek: i64,
    /// How many bytes of the base are copied.
    pub copy: u32,
    /// How many bytes are inserted then.
    pub insert: u32,
}

impl Step {
    /// Appends it, as a piece has it.
    pub fn write(self, to: &mut Vec<u8>) {
        write_number(to, (self.seek << 1 ^ self.seek >> 63) as u64);
        write_number(to, self.copy.into());
        write_number(to, self.insert.into());
    }

    /// Takes it from the front of a piece.
    pub fn read(from: &mut &[u8]) -> Option<Self> {
        let seek = read_number(from)?;
        let seek = (seek >> 1) as i64 ^ -((seek & 1) as i64);
        Some(Self { seek, copy: read_length(from)?, insert: read_length(from)? })
    }
}

/// Bytes of what the steps have laid out that something is added to, modulo 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many bytes before it, from the end of the run before, stay as they are.
    pub keep: u32,
    /// How many bytes are changed.
    pub change: u32,
}

impl Run {
    /// Appends it, as a piece has it.
    pub fn write(self, to: &mut Vec<u8>) {
        write_number(to, self.keep.into());
        write_number(to, self.change.into());
    }

    /// Takes it from the front of a piece.
    pub fn read(from: &mut &[u8]) -> Option<Self> {
        Some(Self { keep: read_length(from)?, change: read_length(from)? })
    }
}

fn read_length(from: &mut &[u8]) -> Option<u32> {
    read_number(from).and_then(|length| u32::try_from(length).ok())
}

/// Appends a number as LEB128.
pub fn write_number(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Takes a number from the front; `None` if there is none that is whole, or of 64 bits.
pub fn read_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
