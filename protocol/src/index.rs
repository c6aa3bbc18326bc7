//! `index.cbor.zst`: every entry of an image, and where its bytes are.
//!
//! `system.tar.zst` is a plain tar cut into zstd frames that can each be unpacked alone. The index
//! says for each file at which offset of the unpacked tar its data starts, and for each frame how
//! long it is and what its SHA-256 is. So a machine never parses the tar: it makes the entries that
//! the index names and copies their data out of verified frames.
//!
//! The file is CBOR (RFC 8949), structs as arrays, in one zstd frame. Machines keep the CBOR, of which [`crate::delta`]
//! makes later indices.

use std::{collections::HashMap, io::Read as _, ops::Range};

use minicbor::{Decode, Encode};

use crate::{
    Serial, Sha256,
    patch::{MAX_TABLE, PatchFile},
    release::is_safe_path,
    sign::{self, Keys, Kind as SignedKind, Signature},
};

/// The most bytes that an index may have, as served.
pub const MAX_PACKED: u64 = 128 << 20;
/// The most bytes that an index may have, unpacked.
pub const MAX_UNPACKED: u64 = 128 << 20;
/// The most bytes that one frame may unpack to: what a machine holds in memory, per core.
pub const MAX_FRAME: u32 = 8 << 20;
/// The most bytes in a path, as in Linux.
pub const MAX_PATH: usize = 4095;
/// The most bytes in the name of an extended attribute, as in Linux (`XATTR_NAME_MAX`).
pub const MAX_XATTR_NAME: usize = 255;
/// The most bytes in the value of an extended attribute, as in Linux (`XATTR_SIZE_MAX`).
pub const MAX_XATTR_VALUE: usize = 64 << 10;
/// At the top of a slot, a machine's records: no image may have anything there.
pub const RECORDS: &[u8] = b".gse";
/// The version of the format.
pub const FORMAT: u32 = 1;

/// An image's index. One that was read by [`Index::open`] or [`Index::parse`] is consistent: see
/// [`Index::check`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Index {
    /// [`FORMAT`].
    #[n(0)]
    pub format: u32,
    /// The image's name.
    #[n(1)]
    pub name: String,
    /// The image's version.
    #[n(2)]
    pub version: String,
    /// The serial of the release that the image was made for; later ones may name it too.
    #[n(3)]
    pub serial: Serial,
    /// In the tar's order: a directory before what is in it. The first is the root, with path "".
    #[n(4)]
    pub entries: Vec<Entry>,
    /// In the order of the file, without gaps.
    #[n(5)]
    pub frames: Vec<Frame>,
    /// What makes this image out of older ones. Programs that do not know of patches pass over this.
    #[n(6)]
    #[cbor(default)]
    pub patches: Vec<PatchFile>,
}

/// One frame of `system.tar.zst` or of a patch file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Frame {
    /// Bytes in the file.
    #[n(0)]
    pub packed: u32,
    /// Bytes of the tar in it.
    #[n(1)]
    pub unpacked: u32,
    /// Of the packed bytes.
    #[n(2)]
    pub sha256: Sha256,
}

impl Frame {
    /// Whether these are its packed bytes.
    pub fn is(&self, packed: &[u8]) -> bool {
        packed.len() == self.packed as usize && Sha256::of(packed) == self.sha256
    }
}

/// A frame, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedFrame {
    /// Where it starts in `system.tar.zst`.
    pub packed_offset: u64,
    /// Where its content starts in the unpacked tar.
    pub unpacked_offset: u64,
    /// Its lengths and digest.
    pub frame: Frame,
}

impl PlacedFrame {
    /// Where it is in `system.tar.zst`.
    pub fn packed_range(&self) -> Range<u64> {
        self.packed_offset..self.packed_offset.saturating_add(self.frame.packed.into())
    }
}

/// A file, directory or other node of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Entry {
    /// Relative to the root, without `.`, `..` or empty parts; any bytes but NUL.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub path: Vec<u8>,
    /// What it is.
    #[n(1)]
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: the lower twelve bits. 0 for a hard link.
    #[n(2)]
    pub mode: u32,
    /// Owner.
    #[n(3)]
    pub uid: u32,
    /// Group.
    #[n(4)]
    pub gid: u32,
    /// When the content was last changed.
    #[n(5)]
    pub mtime: Time,
    /// Extended attributes by full name; ACLs and file capabilities are among them.
    #[n(6)]
    pub xattrs: Vec<Xattr>,
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[cbor(array)]
pub struct Time {
    /// Seconds since 1970.
    #[n(0)]
    pub seconds: i64,
    /// 0 to 999,999,999
    #[n(1)]
    pub nanoseconds: u32,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Xattr {
    /// With its namespace, such as `security.capability`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// As the kernel gives it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// A directory.
    #[n(0)]
    Directory,
    /// A regular file.
    #[n(1)]
    File(#[n(0)] Content),
    /// A symbolic link.
    #[n(2)]
    Symlink(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Another name of an earlier regular file: its position in `entries`.
    #[n(3)]
    Hardlink(#[n(0)] u32),
    /// A character device: major and minor.
    #[n(4)]
    CharDevice(#[n(0)] u32, #[n(1)] u32),
    /// A block device: major and minor.
    #[n(5)]
    BlockDevice(#[n(0)] u32, #[n(1)] u32),
    /// A named pipe.
    #[n(6)]
    Fifo,
}

/// A regular file's content.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Content {
    /// The file's length, holes included.
    #[n(0)]
    pub size: u64,
    /// Where the stored bytes start in the unpacked tar.
    #[n(1)]
    pub offset: u64,
    /// Of the stored bytes, in their order: the whole file unless it has holes.
    #[n(2)]
    pub sha256: Sha256,
    /// The parts that are stored, in order and apart; the rest is holes. `None`: all of it.
    #[n(3)]
    pub extents: Option<Vec<Extent>>,
}

/// A stored part of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Extent {
    /// Where it starts in the file.
    #[n(0)]
    pub offset: u64,
    /// In bytes, not 0.
    #[n(1)]
    pub length: u64,
}

impl Content {
    /// How many bytes of it the tar holds.
    pub fn stored(&self) -> u64 {
        match &self.extents {
            None => self.size,
            Some(extents) => extents.iter().fold(0, |sum, e| sum.saturating_add(e.length)),
        }
    }
}

/// Why an index is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The signature.
    #[error(transparent)]
    Signature(#[from] sign::Error),
    /// Not zstd, or too large.
    #[error("the index cannot be unpacked ({0})")]
    Zstd(String),
    /// Not the CBOR that an index is.
    #[error("the index cannot be read ({0})")]
    Cbor(String),
    /// A later format.
    #[error("the index has format {0}, and this program reads format 1: use a newer one")]
    Format(u32),
    /// The serial in the file is not the signed one.
    #[error("the index has serial {file}, its signature says {signed}")]
    Serial {
        /// In the file.
        file: Serial,
        /// In the trusted comment.
        signed: Serial,
    },
    /// A release names another one.
    #[error("the index {why} of version {version}: publish or install that version again")]
    Other {
        /// Of the release.
        version: String,
        /// How they differ.
        why: &'static str,
    },
    /// An entry that must not be.
    #[error("the index has an entry {path:?} that {why}")]
    Entry {
        /// The entry's path, as far as it is text.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A patch that must not be.
    #[error("the patch from version {version} {why}: publish the image again")]
    Patch {
        /// The version that it is from.
        version: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A frame that must not be.
    #[error("frame {number} of the index {why}")]
    Frame {
        /// Counted from 0.
        number: usize,
        /// What is wrong.
        why: &'static str,
    },
}

impl Index {
    /// Checks the signature, and then reads the file.
    pub fn open(bytes: &[u8], signature: &str, keys: &Keys) -> Result<Self, Error> {
        Ok(Self::open_with_cbor(bytes, signature, keys)?.0)
    }

    /// As [`Index::open`]; beside the index, the CBOR that it was read from.
    pub fn open_with_cbor(
        bytes: &[u8],
        signature: &str,
        keys: &Keys,
    ) -> Result<(Self, Vec<u8>), Error> {
        let claim = signature.parse::<Signature>()?.verify(SignedKind::Index, bytes, keys)?;
        let cbor = unpack(bytes, &[])?;
        let index = Self::read(&cbor)?;
        if index.serial != claim.serial {
            return Err(Error::Serial { file: index.serial, signed: claim.serial });
        }
        Ok((index, cbor))
    }

    /// Reads bytes whose signature has been checked.
    pub fn parse(packed: &[u8]) -> Result<Self, Error> {
        Self::read(&unpack(packed, &[])?)
    }

    /// Reads the CBOR in the file, which has been checked by its digest or its signature.
    pub fn read(cbor: &[u8]) -> Result<Self, Error> {
        let mut decoder = minicbor::Decoder::new(cbor);
        let index: Self = decoder.decode().map_err(|e| Error::Cbor(e.to_string()))?;
        if decoder.position() != cbor.len() {
            return Err(Error::Cbor("there is something after its end".to_owned()));
        }
        index.check()?;
        Ok(index)
    }

    /// The CBOR in the file.
    pub fn to_cbor(&self) -> Result<Vec<u8>, Error> {
        minicbor::to_vec(self).map_err(|e| Error::Cbor(e.to_string()))
    }

    /// The bytes of the file.
    pub fn to_bytes(&self, level: i32) -> Result<Vec<u8>, Error> {
        pack(&self.to_cbor()?, level)
    }

    /// Each frame with its place, in order.
    pub fn placed_frames(&self) -> impl Iterator<Item = PlacedFrame> + '_ {
        placed(&self.frames)
    }

    /// The length of the unpacked tar.
    pub fn unpacked_size(&self) -> u64 {
        self.frames.iter().map(|f| u64::from(f.unpacked)).sum()
    }

    /// The length of `system.tar.zst`.
    pub fn packed_size(&self) -> u64 {
        self.frames.iter().map(|f| u64::from(f.packed)).sum()
    }

    /// What the installer relies on: the root first; every path relative and plain, given once, in a
    /// directory that came before (so nothing can be reached through a link, or outside the tree);
    /// hard links to earlier files; data within the frames, in the order of the entries.
    pub fn check(&self) -> Result<(), Error> {
        if self.format != FORMAT {
            return Err(Error::Format(self.format));
        }
        check_frames(&self.frames)?;
        for patch in &self.patches {
            check_frames(&patch.frames)?;
            let wrong = |why| Err(Error::Patch { version: patch.version.clone(), why });
            if !is_safe_path(&patch.version, 1) {
                return wrong("has no version that a file can be named after");
            }
            if patch.table == 0
                || patch.table > MAX_TABLE
                || patch.table as usize > patch.frames.len()
            {
                return wrong("has no table, or too large a one");
            }
        }
        let end = self.unpacked_size();
        let mut is_directory: HashMap<&[u8], bool> = HashMap::with_capacity(self.entries.len());
        let mut data = 0;
        for (number, entry) in self.entries.iter().enumerate() {
            let path = entry.path.as_slice();
            let wrong =
                |why| Err(Error::Entry { path: String::from_utf8_lossy(path).into_owned(), why });
            if let Err(why) = check_path(path, number == 0) {
                return wrong(why);
            }
            if number == 0 {
                if entry.kind != Kind::Directory {
                    return wrong("is the root, but no directory");
                }
            } else {
                let parent = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
                match is_directory.get(path.get(..parent).unwrap_or_default()) {
                    Some(true) => {}
                    Some(false) => return wrong("lies in something that is no directory"),
                    None => return wrong("comes before its directory"),
                }
            }
            if is_directory.insert(path, entry.kind == Kind::Directory).is_some() {
                return wrong("is there twice");
            }
            if entry.mode & !0o7777 != 0 {
                return wrong("has a mode of more than twelve bits");
            }
            if entry.mtime.nanoseconds > 999_999_999 {
                return wrong("has a time with more than 999999999 nanoseconds");
            }
            if entry.xattrs.iter().any(|x| x.name.is_empty() || x.name.contains(&0)) {
                return wrong("has an extended attribute without a name");
            }
            if entry
                .xattrs
                .iter()
                .any(|x| x.name.len() > MAX_XATTR_NAME || x.value.len() > MAX_XATTR_VALUE)
            {
                return wrong("has an extended attribute that is larger than one can be");
            }
            match &entry.kind {
                Kind::Symlink(target) if target.len() > MAX_PATH => {
                    return wrong("is a link to a path of over 4095 bytes");
                }
                Kind::Symlink(target) if target.is_empty() || target.contains(&0) => {
                    return wrong("is a link to nothing");
                }
                Kind::Hardlink(target) => {
                    let target = self.entries.get(..number).and_then(|e| e.get(*target as usize));
                    if !matches!(target, Some(Entry { kind: Kind::File(_), .. })) {
                        return wrong("is a hard link to something that is no earlier file");
                    }
                }
                Kind::File(content) => {
                    if let Err(why) = check_extents(content) {
                        return wrong(why);
                    }
                    let stored = content.stored();
                    match content.offset.checked_add(stored) {
                        _ if stored == 0 => {}
                        Some(stop) if content.offset >= data && stop <= end => data = stop,
                        _ => return wrong("has its data outside the image, or out of order"),
                    }
                }
                _ => {}
            }
        }
        if self.entries.is_empty() {
            return Err(Error::Entry { path: String::new(), why: "is missing: the root" });
        }
        Ok(())
    }
}

/// The CBOR in the file, whose digest or signature has been checked. `older` is that of the index which the file was made
/// from, if it is one of [`crate::delta`], or else empty: with a wrong one, something else comes out.
///
/// # Errors
/// The file is damaged, or unpacks to more than [`MAX_UNPACKED`] bytes.
pub fn unpack(packed: &[u8], older: &[u8]) -> Result<Vec<u8>, Error> {
    let mut cbor = Vec::new();
    zstd::Decoder::with_ref_prefix(packed, older)
        .and_then(|d| d.take(MAX_UNPACKED + 1).read_to_end(&mut cbor))
        .map_err(|e| Error::Zstd(e.to_string()))?;
    if cbor.len() as u64 > MAX_UNPACKED {
        return Err(Error::Zstd(format!("over {MAX_UNPACKED} bytes")));
    }
    Ok(cbor)
}

/// The file with this CBOR.
pub fn pack(cbor: &[u8], level: i32) -> Result<Vec<u8>, Error> {
    zstd::encode_all(cbor, level).map_err(|e| Error::Zstd(e.to_string()))
}

/// Each of some frames that follow each other, with its place.
pub(crate) fn placed(frames: &[Frame]) -> impl Iterator<Item = PlacedFrame> + '_ {
    frames.iter().scan((0, 0), |(packed, unpacked), frame| {
        let placed =
            PlacedFrame { packed_offset: *packed, unpacked_offset: *unpacked, frame: *frame };
        *packed += u64::from(frame.packed);
        *unpacked += u64::from(frame.unpacked);
        Some(placed)
    })
}

fn check_frames(frames: &[Frame]) -> Result<(), Error> {
    for (number, frame) in frames.iter().enumerate() {
        let why = match frame {
            Frame { unpacked: 0, .. } | Frame { packed: 0, .. } => "is empty",
            // zstd stores what it cannot compress, in a little more than its size.
            Frame { unpacked, packed, .. }
                if *unpacked > MAX_FRAME || *packed > MAX_FRAME + (MAX_FRAME >> 7) =>
            {
                "is too large"
            }
            _ => continue,
        };
        return Err(Error::Frame { number, why });
    }
    Ok(())
}

fn check_path(path: &[u8], root: bool) -> Result<(), &'static str> {
    if root != path.is_empty() {
        return Err("is not the root, or is the root but not first");
    }
    if path.len() > MAX_PATH {
        return Err("has a path of over 4095 bytes");
    }
    if path.contains(&0) {
        return Err("has a NUL in its path");
    }
    if path.starts_with(b"/") {
        return Err("has an absolute path");
    }
    if path == RECORDS || path.starts_with(b".gse/") {
        return Err("lies where a machine keeps its own records");
    }
    for part in path.split(|b| *b == b'/').filter(|_| !root) {
        match part {
            b"" | b"." => return Err("has an empty part or a . in its path"),
            b".." => return Err("would leave the tree by a .. in its path"),
            _ if part.len() > 255 => return Err("has a name of over 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

fn check_extents(content: &Content) -> Result<(), &'static str> {
    let mut end = 0_u64;
    for extent in content.extents.iter().flatten() {
        let stop = extent.offset.checked_add(extent.length);
        match stop {
            Some(stop) if extent.length > 0 && extent.offset >= end && stop <= content.size => {
                end = stop;
            }
            _ => return Err("has overlapping or empty extents, or one beyond its end"),
        }
    }
    if content.size > i64::MAX as u64 {
        return Err("is larger than a file can be");
    }
    Ok(())
}
