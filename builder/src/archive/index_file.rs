//! The image's index as it is published: whole, and as what makes it out of those of older images.

use std::{fs, io, path::Path};

use gse_protocol::{
    Index, Sha256, delta, index,
    release::{IndexDelta, IndexFile},
    sign::{self, Claim},
};

use super::{ArchiveOptions, Error, INDEX, dist::write_file, patches::Older, words};
use crate::{file_error::FileError, patch, workers::in_order};

/// What makes an index out of an older one is not published if it has more than this part of the whole.
const PAYS: usize = 2;
/// From how many older indices, at most: the release lists them, and is a small file.
const MOST: usize = 64;

/// Writes the index of an image that is made in `work` and published as `folder`, with its signature, and what makes it
/// out of the older ones.
pub(super) fn write(
    options: &ArchiveOptions<'_>,
    index: &Index,
    mut older: Vec<Older>,
    folder: &str,
    work: &Path,
) -> Result<IndexFile, Error> {
    let cbor = index.to_cbor()?;
    let bytes = index::pack(&cbor, options.level)?;
    let claim = Claim { kind: sign::Kind::Index, serial: index.serial };
    let signature = options.key.sign(claim, &words(options), bytes.as_slice())?;
    write_file(&work.join(INDEX), &bytes)?;
    write_file(&work.join(format!("{INDEX}.minisig")), signature.as_bytes())?;
    let mut file = IndexFile::of(format!("{folder}/{INDEX}"), &bytes, &cbor);
    older.truncate(MOST);
    // One takes some seconds.
    let make = |(): &mut (), older: &Older| {
        let made = delta::make(&cbor, &older.cbor, patch::LEVEL)?;
        Ok((delta::name(&older.version), Sha256::of(&older.cbor), made))
    };
    in_order(
        options.threads,
        &older,
        || (),
        make,
        |(name, content, made)| {
            if made.len() <= bytes.len() / PAYS {
                write_file(&work.join(&name), &made)?;
                file.since.push(IndexDelta::of(content, format!("{folder}/{name}"), &made));
            }
            Ok::<_, Error>(())
        },
    )?;
    Ok(file)
}

/// The index of an image that lies in `folder` of `dist`, and what makes it out of those of the versions that it has
/// patches from.
///
/// # Errors
/// Those of reading.
pub(crate) fn published(dist: &Path, folder: &str, index: &Index) -> Result<IndexFile, FileError> {
    let read = |path: &str| fs::read(dist.join(path));
    let failed = |path: &str, e| FileError::of("reading", &dist.join(path))(e);
    let path = format!("{folder}/{INDEX}");
    let bytes = read(&path).map_err(|e| failed(&path, e))?;
    let cbor = index::unpack(&bytes, &[]).map_err(|e| failed(&path, io::Error::other(e)))?;
    let mut file = IndexFile::of(path, &bytes, &cbor);
    for from in &index.patches {
        let path = format!("{folder}/{}", delta::name(&from.version));
        match read(&path) {
            Ok(made) => file.since.push(IndexDelta::of(from.index, path, &made)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&path, e)),
        }
    }
    Ok(file)
}
