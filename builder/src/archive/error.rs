//! What can go wrong while an image is made.

use std::{io, path::PathBuf};

use gse_protocol::{index, release};

use crate::{keys, patch};

/// Why there is no new release. Whatever it is, what was published before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree cannot be opened.
    #[error("opening the tree {path}, which has to be a directory")]
    Tree {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the tree cannot be read.
    #[error("{doing} {path} of the tree")]
    Read {
        /// A gerund, such as "listing".
        doing: &'static str,
        /// Relative to the tree.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it was when the tree was listed.
    #[error("{path} {what} while it was archived: stop what writes to the tree, and start again")]
    Changed {
        /// Relative to the tree.
        path: PathBuf,
        /// "vanished", "changed".
        what: &'static str,
    },
    /// Something in the tree that an image cannot hold.
    #[error("{path} of the tree {why}")]
    Unfit {
        /// Relative to the tree.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The image would contain itself.
    #[error("{dist} lies inside the tree {tree}: publish elsewhere with --dist")]
    Inside {
        /// Where images are published.
        dist: PathBuf,
        /// What is archived.
        tree: PathBuf,
    },
    /// Name or version.
    #[error(
        "--{what} {value:?} may only have letters, digits and . _ + ~ -, and starts with none of . and -"
    )]
    Label {
        /// "name" or "version".
        what: &'static str,
        /// As it was given.
        value: String,
    },
    /// The version is there already.
    #[error("{0} exists: a published version never changes, so choose another --version")]
    Exists(PathBuf),
    /// Another process publishes.
    #[error("another gse publishes into {0}: wait until it is done")]
    Busy(PathBuf),
    /// The release pointer cannot be trusted, so its serial cannot be raised.
    #[error(
        "{path} cannot be trusted, so there is no serial to go on from; put back the file and its .minisig from a backup, or give the public key that signed it with --pub if the key was changed on purpose"
    )]
    Previous {
        /// Of the release pointer.
        path: PathBuf,
        /// What is wrong with it.
        source: release::Error,
    },
    /// The release pointer's signature is not there.
    #[error("{0} is missing: put it back from a backup, as the serial must never go down")]
    Unsigned(PathBuf),
    /// Writing below DIST.
    #[error("{doing} {path}")]
    Write {
        /// A gerund, such as "writing".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image needs more than the system gives.
    #[error("{0}")]
    System(String),
    /// The index did not come out right.
    #[error("making the index")]
    Index(#[from] index::Error),
    /// The image that was just made cannot be read.
    #[error(transparent)]
    Image(#[from] patch::ImageError),
    /// Making patches.
    #[error(transparent)]
    Patch(#[from] patch::PackError),
    /// Signing.
    #[error(transparent)]
    Key(#[from] keys::Error),
}

impl Error {
    /// Adds what was being done below DIST, and to what.
    pub(crate) fn write(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { doing, path, source }
    }
}
