//! What can go wrong with what is published.

use std::path::PathBuf;

use gse_protocol::{index, release};

use crate::{archive, file_error::FileError, keys};

/// Why a question about releases has no answer, or a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing.
    #[error(transparent)]
    File(#[from] FileError),
    /// An index that no known key signed, or that is damaged.
    #[error("{path}: give the public key that signed it with --pub, or archive that version again")]
    Index {
        /// Of the index.
        path: PathBuf,
        /// What is wrong.
        source: index::Error,
    },
    /// The release that is published.
    #[error(
        "{path}: put it and its .minisig back from a backup, or give the key that signed it with --pub"
    )]
    Release {
        /// Of the release.
        path: PathBuf,
        /// What is wrong.
        source: release::Error,
    },
    /// No such version.
    #[error("{version} is not published in {dist}; {}", these(.known))]
    Unknown {
        /// As it was given.
        version: String,
        /// Where it was looked for.
        dist: PathBuf,
        /// All versions.
        known: String,
    },
    /// Two images have this version.
    #[error("{version} is the version of several images: say which one by its folder: {folders}")]
    Ambiguous {
        /// As it was given.
        version: String,
        /// Those that have it.
        folders: String,
    },
    /// The default cannot go without another one.
    #[error(
        "{0} is what machines take, and there is no other version for them: publish one first with --base or --archive"
    )]
    Last(String),
    /// A file in an image does not have the content that the index says.
    #[error("{path} of the image {image} is damaged: archive that version again")]
    Damaged {
        /// Of the image.
        image: PathBuf,
        /// In the system.
        path: String,
    },
    /// Publishing.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A key.
    #[error(transparent)]
    Key(#[from] keys::Error),
}

fn these(known: &str) -> String {
    match known {
        "" => "nothing is: gse --archive or gse --base with --version does it".to_owned(),
        known => format!("these are: {known}"),
    }
}
