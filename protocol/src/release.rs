//! `latest.toml`: the release that a server offers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Index, Sha256,
    config::{self, toml_text},
    index,
    sign::{self, Keys, Kind, Signature},
};

/// The most bytes that `latest.toml` may have.
pub const MAX_RELEASE: usize = 64 << 10;

/// Counts what one server publishes; a machine takes only what is higher than what it has.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Serial(#[n(0)] pub u64);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Serial {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The release pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The version of this file's format: 1.
    pub format: u32,
    /// The image's name, such as `lab`.
    pub name: String,
    /// The image's version, as a person writes it.
    pub version: String,
    /// Rises with each release.
    pub serial: Serial,
    /// Seconds since 1970 at which it was published; a machine's clock is at least this late.
    pub created: u64,
    /// A machine that has a higher serial takes this one all the same.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// The image index.
    pub index: IndexFile,
    /// The image.
    pub image: ImageFile,
    /// What machines that start from their own disk are to start the image with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
}

/// A kernel whose modules the image has, and the controller for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel.
    pub image: WholeFile,
    /// The controller's initramfs.
    pub initramfs: WholeFile,
}

/// A file that is fetched whole: where it is, relative to `latest.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WholeFile {
    /// Path below the server's root.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of the file as it is served.
    pub sha256: Sha256,
}

impl WholeFile {
    /// The file with these bytes.
    pub fn of(path: String, bytes: &[u8]) -> Self {
        Self { path, size: bytes.len() as u64, sha256: Sha256::of(bytes) }
    }
}

/// Where the image index is, relative to `latest.toml`: as a whole, and as what makes it out of older ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexFile {
    /// Path below the server's root.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of the file as it is served.
    pub sha256: Sha256,
    /// Of the CBOR in it, which is what machines keep.
    pub content: Sha256,
    /// What makes it out of older indices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub since: Vec<IndexDelta>,
}

impl IndexFile {
    /// The index with this CBOR, which is packed in these bytes; nothing makes it yet.
    pub fn of(path: String, packed: &[u8], cbor: &[u8]) -> Self {
        let WholeFile { path, size, sha256 } = WholeFile::of(path, packed);
        Self { path, size, sha256, content: Sha256::of(cbor), since: Vec::new() }
    }

    /// The file that has all of it.
    pub fn whole(&self) -> WholeFile {
        WholeFile { path: self.path.clone(), size: self.size, sha256: self.sha256 }
    }
}

/// Where a file is that makes the index out of an older one: see [`crate::delta`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexDelta {
    /// Of the older index's CBOR.
    pub content: Sha256,
    /// Path below the server's root.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of the file as it is served.
    pub sha256: Sha256,
}

impl IndexDelta {
    /// The file with these bytes, which starts from the index with the digest `content`.
    pub fn of(content: Sha256, path: String, bytes: &[u8]) -> Self {
        let WholeFile { path, size, sha256 } = WholeFile::of(path, bytes);
        Self { content, path, size, sha256 }
    }

    /// The file.
    pub fn file(&self) -> WholeFile {
        WholeFile { path: self.path.clone(), size: self.size, sha256: self.sha256 }
    }
}

/// Where the image is, relative to `latest.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Path below the server's root.
    pub path: String,
    /// In bytes, as it is served.
    pub size: u64,
    /// Bytes that the files take once installed, file data alone.
    pub installed_size: u64,
    /// How many entries the tree has.
    pub entries: u64,
}

/// Why a release is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The signature.
    #[error(transparent)]
    Signature(#[from] sign::Error),
    /// The text.
    #[error(transparent)]
    Text(#[from] config::Error),
    /// A later format.
    #[error(
        "latest.toml has format {0}, and this controller reads format 1: build a newer controller"
    )]
    Format(u32),
    /// The serial in the file is not the signed one.
    #[error("latest.toml says serial {file}, its signature says {signed}")]
    Serial {
        /// In the file.
        file: Serial,
        /// In the trusted comment.
        signed: Serial,
    },
    /// A name, version or path that could leave its folder.
    #[error(
        "latest.toml: {field} {value:?} may only have letters, digits and . _ + ~ - in each of its parts"
    )]
    Unsafe {
        /// Which key.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Release {
    /// Checks the signature, and then reads the file.
    pub fn open(bytes: &[u8], signature: &str, keys: &Keys) -> Result<Self, Error> {
        let claim = signature.parse::<Signature>()?.verify(Kind::Release, bytes, keys)?;
        let release = Self::parse(&toml_text("latest.toml", bytes)?)?;
        if release.serial != claim.serial {
            return Err(Error::Serial { file: release.serial, signed: claim.serial });
        }
        Ok(release)
    }

    /// Reads text whose signature has been checked.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let release: Self = config::parse("latest.toml", text)?;
        if release.format != 1 {
            return Err(Error::Format(release.format));
        }
        let kernel = release.kernel.as_ref();
        let kernel = kernel
            .map(|k| [("kernel.image.path", &k.image), ("kernel.initramfs.path", &k.initramfs)]);
        let kernel = kernel.into_iter().flatten().map(|(field, file)| (field, &file.path, 8));
        let since = release.index.since.iter().map(|delta| ("index.since.path", &delta.path, 8));
        let fields = [
            ("name", &release.name, 1),
            ("version", &release.version, 1),
            ("index.path", &release.index.path, 8),
            ("image.path", &release.image.path, 8),
        ];
        for (field, value, parts) in fields.into_iter().chain(kernel).chain(since) {
            if !is_safe_path(value, parts) {
                return Err(Error::Unsafe { field, value: value.clone() });
            }
        }
        Ok(release)
    }

    /// Reads the CBOR of the index, if it is that of this release, which is how it is signed.
    pub fn read_index(&self, cbor: &[u8]) -> Result<Index, index::Error> {
        let other = |why| index::Error::Other { version: self.version.clone(), why };
        if Sha256::of(cbor) != self.index.content {
            return Err(other("is not that"));
        }
        let index = Index::read(cbor)?;
        if index.packed_size() != self.image.size {
            return Err(other("describes another image than that"));
        }
        Ok(index)
    }

    /// The text of the file.
    pub fn to_toml(&self) -> String {
        // Strings and integers in structs: nothing here that TOML cannot hold.
        toml::to_string(self).unwrap_or_default()
    }
}

/// Whether `path` is relative, has at most `parts` parts, and none that could surprise a server's
/// file system, a URL or a terminal.
pub fn is_safe_path(path: &str, parts: usize) -> bool {
    let safe = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c))
    };
    path.len() <= 255 && path.split('/').count() <= parts && path.split('/').all(safe)
}
