//! What a slot keeps of what was published: the signed release, and the image index that it names.

use anyhow::{Context as _, Result};
use gse_protocol::{Index, Release, sign::Keys};

use crate::disk::records::{Origin, Published, Records};

/// A slot's release, whose signature was checked.
pub(crate) struct Kept<'r> {
    records: &'r Records,
    pub(crate) release: Release,
    /// The file, and its signature.
    pub(crate) files: [Vec<u8>; 2],
    /// What the system was made under.
    pub(crate) origin: Origin,
}

impl<'r> Kept<'r> {
    /// Opens the release in `records`.
    ///
    /// # Errors
    /// It is missing, or was signed neither by one of `keys` nor by one that was trusted when it was installed: a key that
    /// was revoked since does not make the system another.
    pub(crate) fn open(records: &'r Records, keys: &Keys) -> Result<Self> {
        let origin = records.slot()?.map(|record| record.origin).unwrap_or_default();
        let files = [Published::Release, Published::ReleaseSignature];
        let [toml, signature] = files.map(|which| file(records, which));
        let (toml, signature) = (toml?, signature?);
        let text = String::from_utf8_lossy(&signature);
        let release = Release::open(&toml, &text, &origin.with(keys))
            .context("the release that the slot keeps")?;
        Ok(Self { records, release, files: [toml, signature], origin })
    }

    /// The CBOR of the index. Nothing has been checked.
    ///
    /// # Errors
    /// It is missing, or cannot be read.
    pub(crate) fn cbor(&self) -> Result<Vec<u8>> {
        file(self.records, Published::Index)
    }

    /// The index, and its CBOR.
    ///
    /// # Errors
    /// As [`Kept::cbor`], and if it is not that of the release.
    pub(crate) fn index(&self) -> Result<(Index, Vec<u8>)> {
        let cbor = self.cbor()?;
        let index = self.release.read_index(&cbor).context("the index that the slot keeps")?;
        Ok((index, cbor))
    }
}

fn file(records: &Records, which: Published) -> Result<Vec<u8>> {
    records.published(which)?.with_context(|| format!("{} is missing", which.name()))
}
