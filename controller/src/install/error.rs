//! Why a system could not be installed.

use std::{fmt, io};

use gse_protocol::Sha256;
use rustix::io::Errno;

use super::Damaged;

/// Why a system could not be installed. Whatever it is, the slot that was written to is worthless and
/// can be discarded; nothing else was touched.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The files need more bytes than the filesystem has, or it filled up on the way.
    #[error(
        "the slot is full: the system needs {} MiB for its files and {} MiB are free; \
         make the partition larger in drives.toml or the system smaller", mib(*needed), mib(*free)
    )]
    Full {
        /// Bytes in the system's files.
        needed: u64,
        /// Bytes that were free.
        free: u64,
    },
    /// The filesystem has a fixed number of inodes, and it is too small.
    #[error(
        "the slot has room for {free} files and the system has {needed}: \
         give mkfs_options in drives.toml that make more inodes"
    )]
    Inodes {
        /// Files, directories, links and nodes of the system.
        needed: u64,
        /// Free inodes.
        free: u64,
    },
    /// No place has the bytes that the index promises for a frame.
    #[error(
        "frame {number} of the image is not what was signed, and no server has it right: \
         the image on the servers is damaged, publish it again"
    )]
    Frame {
        /// Counted from 0.
        number: usize,
    },
    /// A frame has the right digest, but is not what the index says about it: the builder's fault.
    #[error(
        "frame {number} of the image does not unpack to {expected} bytes ({why}): build it again"
    )]
    Unpack {
        /// Counted from 0.
        number: usize,
        /// What the index says.
        expected: u32,
        /// What zstd says.
        why: String,
    },
    /// The content of a file is not what the index says, though each of its frames is: the builder's
    /// fault.
    #[error(
        "the image holds {path:?} with SHA-256 {found}, and its index says {expected}: build it again"
    )]
    Content {
        /// Which file.
        path: String,
        /// What the index says.
        expected: Sha256,
        /// What was unpacked.
        found: Sha256,
    },
    /// A local tree has not all of the content, and there is no image to take it from.
    #[error(
        "{} files of the installed system are not what its signed index says: {_0}; \
         connect the machine to its server so that they can be fetched, or install the system again",
        _0.files
    )]
    Damaged(Damaged),
    /// An owner or group that no file can have.
    #[error(
        "the index gives {path:?} the owner {uid}:{gid}, which Linux cannot store: build it again"
    )]
    Owner {
        /// Which entry.
        path: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// The image could not be read any further.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A system call failed.
    #[error("cannot {doing} {path:?} on the slot: {error}")]
    System {
        /// Such as `create`.
        doing: &'static str,
        /// Relative to the slot's root.
        path: String,
        /// What the kernel says.
        error: Errno,
    },
}

impl InstallError {
    pub(super) fn system(doing: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Self {
        move |error| Self::System { doing, path: name(path), error }
    }

    /// Whether what was fetched, or could not be, is to blame.
    pub(super) fn is_of_source(&self) -> bool {
        matches!(self, Self::Source(_) | Self::Frame { .. } | Self::Unpack { .. })
    }

    /// Whether the filesystem ran out of space, rather than of room for one attribute.
    pub(super) fn is_full(&self) -> bool {
        let full = matches!(self, Self::System { error: Errno::NOSPC | Errno::DQUOT, .. });
        full && !matches!(self, Self::System { doing: super::metadata::SET_XATTR, .. })
    }
}

/// The image could not be read any further; the text says from where and why.
#[derive(Debug)]
pub struct SourceError(Box<dyn std::error::Error + Send + Sync>);

impl SourceError {
    /// Wraps what the place where the image comes from says.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the image cannot be read: {}", self.0)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A path for people: the root is the empty path.
pub(super) fn name(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
