//! `gse --verify`: a published file against a public key.

use std::{
    fs::{self, File},
    io, iter,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Index, Release, Serial, Sha256, index,
    release::{self, IndexDelta, MAX_RELEASE},
    sign::{self, KeyId, Keys, Kind, PublicKey, Signature},
};
use serde::Serialize;

/// The most bytes that a controller configuration is read up to, to be checked.
const MAX_CONFIG: u64 = 64 << 20;

/// Why a file is not what it should be, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none of those that GSE signs.
    #[error(
        "{0} is none of the files that gse signs: latest.toml, index.cbor.zst, system.tar.zst, config.tar"
    )]
    Name(PathBuf),
    /// Reading a file.
    #[error("reading {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is far too large to be what its name says.
    #[error("{path} is larger than the {most} bytes that such a file may have")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// In bytes.
        most: u64,
    },
    /// The signature was made by another key.
    #[error("{path} was signed by another key than {key}: give the right one with --pub")]
    OtherKey {
        /// Which file.
        path: PathBuf,
        /// The key that it was checked with.
        key: KeyId,
    },
    /// The signature.
    #[error("checking {path}")]
    Signature {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: sign::Error,
    },
    /// The release's content.
    #[error("checking {path}")]
    Release {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: release::Error,
    },
    /// The index's content.
    #[error("checking {path}")]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: index::Error,
    },
    /// The release does not point at the index that is there, or at what makes it.
    #[error("{0} is not what latest.toml names: its size or SHA-256 is another")]
    OtherIndex(PathBuf),
}

/// What a file is found to be.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// "release", "index", "image" or "config".
    pub kind: String,
    /// Of the release, or of the configuration.
    pub serial: Serial,
    /// The key that signed it.
    pub key: String,
    /// More of what it says about itself, for people.
    pub details: String,
}

/// Checks the signature FILE.minisig over `file` and, of a release or index, what is in it. The kind is
/// known by the file's name.
pub fn verify(file: &Path, key: &PublicKey) -> Result<Verified, Error> {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let keys = Keys(vec![key.clone()]);
    let mut signature_file = file.as_os_str().to_owned();
    signature_file.push(".minisig");
    let text = read_text(Path::new(&signature_file), sign::MAX_SIGNATURE as u64)?;
    let wrong = |source| signature_error(file, key, source);
    let signature: Signature = text.parse().map_err(wrong)?;
    let (kind, serial, details) = match name {
        "latest.toml" => {
            let bytes = read(file, MAX_RELEASE as u64)?;
            let release = Release::open(&bytes, &text, &keys).map_err(|source| match source {
                release::Error::Signature(source) => wrong(source),
                source => Error::Release { path: file.to_owned(), source },
            })?;
            let index = check_index(file, &release)?;
            let details = format!("{} {}, {index}", release.name, release.version);
            (Kind::Release, release.serial, details)
        }
        "index.cbor.zst" => {
            let bytes = read(file, index::MAX_PACKED)?;
            let index = Index::open(&bytes, &text, &keys).map_err(|source| match source {
                index::Error::Signature(source) => wrong(source),
                source => Error::Index { path: file.to_owned(), source },
            })?;
            let details = format!(
                "{} {}, {} entries in {} frames",
                index.name,
                index.version,
                index.entries.len(),
                index.frames.len()
            );
            (Kind::Index, index.serial, details)
        }
        "system.tar.zst" => {
            let opened = File::open(file).map_err(read_error(file))?;
            let checked = signature.verify_reader(Kind::Image, &opened, &keys);
            let claim = checked.map_err(read_error(file))?.map_err(wrong)?;
            let size = opened.metadata().map_err(read_error(file))?.len();
            (Kind::Image, claim.serial, format!("{size} bytes"))
        }
        "config.tar" => {
            let bytes = read(file, MAX_CONFIG)?;
            let claim = signature.verify(Kind::Config, &bytes, &keys).map_err(wrong)?;
            (Kind::Config, claim.serial, format!("{} bytes", bytes.len()))
        }
        _ if name.ends_with(".tar.zst") => {
            let opened = File::open(file).map_err(read_error(file))?;
            let checked = signature.verify_reader(Kind::Archive, &opened, &keys);
            let claim = checked.map_err(read_error(file))?.map_err(wrong)?;
            (Kind::Archive, claim.serial, "the content of a directory".to_owned())
        }
        _ => return Err(Error::Name(file.to_owned())),
    };
    Ok(Verified { kind: kind.to_string(), serial, key: key.id().to_string(), details })
}

/// Compares the index, and what makes it out of older ones, with what the release says, as far as they are there.
fn check_index(file: &Path, release: &Release) -> Result<&'static str, Error> {
    let mut is_here = true;
    let others = release.index.since.iter().map(IndexDelta::file);
    for (number, named) in iter::once(release.index.whole()).chain(others).enumerate() {
        let path = file.parent().unwrap_or(Path::new("")).join(named.path);
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                is_here &= number > 0;
                continue;
            }
            Err(e) => return Err(read_error(&path)(e)),
            Ok(metadata) if metadata.len() != named.size => return Err(Error::OtherIndex(path)),
            Ok(_) => {}
        }
        if Sha256::of(&read(&path, index::MAX_PACKED)?) != named.sha256 {
            return Err(Error::OtherIndex(path));
        }
    }
    Ok(if is_here { "its index is the right one" } else { "its index is not here" })
}

fn signature_error(file: &Path, key: &PublicKey, source: sign::Error) -> Error {
    let path = file.to_owned();
    match source {
        sign::Error::UnknownKey(_) => Error::OtherKey { path, key: key.id() },
        source => Error::Signature { path, source },
    }
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Read { path, source }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    use io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take(most + 1).read_to_end(&mut bytes))
        .map_err(read_error(path))?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

fn read_text(path: &Path, most: u64) -> Result<String, Error> {
    let text = String::from_utf8(read(path, most)?);
    text.map_err(|e| read_error(path)(io::Error::new(io::ErrorKind::InvalidData, e)))
}
