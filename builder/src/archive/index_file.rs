//! The image's index as it is published: whole, and as what makes it out of those of older images.

use std::{fs, io, path::Path, thread};

use gse_protocol::{
    Index, Sha256, delta, index,
    release::{IndexDelta, IndexFile},
    sign::{self, Claim},
};

use super::{ArchiveOptions, Error, INDEX, dist::write_file, patches::Older, words};
use crate::{file_error::FileError, patch};

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
    for some in older.chunks(options.threads.get()) {
        for (older, made) in some.iter().zip(deltas(&cbor, some)) {
            let made = made?;
            if made.len() <= bytes.len() / PAYS {
                let name = delta::name(&older.version);
                write_file(&work.join(&name), &made)?;
                let content = Sha256::of(&older.cbor);
                file.since.push(IndexDelta::of(content, format!("{folder}/{name}"), &made));
            }
        }
    }
    Ok(file)
}

/// What makes an index out of each of the older ones, in a thread each: one takes some seconds.
fn deltas(cbor: &[u8], older: &[Older]) -> Vec<Result<Vec<u8>, index::Error>> {
    thread::scope(|scope| {
        let make = |older| move || delta::make(cbor, older, patch::LEVEL);
        let making: Vec<_> = older.iter().map(|older| scope.spawn(make(&older.cbor))).collect();
        let gone = |_| Err(index::Error::Zstd("a thread ended early".to_owned()));
        making.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
    })
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
