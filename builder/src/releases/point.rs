//! `--default=V` and `--withdraw=V`: to which image the release points.

use std::{fs, io};

use gse_protocol::{
    Release, Serial, Sha256,
    release::{ImageFile, IndexFile, Kernel},
    sign::{Claim, Kind},
};
use serde::Serialize;

use super::{Error, Published, Standing, Store, store::WITHDRAWN};
use crate::{
    archive::{Dist, IMAGE, INITRAMFS, KERNEL, write_file},
    file_error::FileError,
    keys::SecretKey,
};

/// zstd level of an index that is signed once more.
const LEVEL: i32 = 3;

/// What machines take from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Of the image.
    pub version: String,
    /// Of the new release; unchanged if it was the default already.
    pub serial: Serial,
    /// Whether it was the default already.
    pub already: bool,
}

/// Makes `version` what machines take, as a new release with the next serial. If it was withdrawn, it no longer is.
///
/// # Errors
/// If it is not published, or DIST cannot be changed. Machines then go on seeing the release that they saw.
pub fn choose(
    store: &Store,
    version: &str,
    key: &SecretKey,
    created: u64,
) -> Result<Chosen, Error> {
    let (dist, _) = Dist::open(&store.dist, &store.keys)?;
    point(store, &dist, &store.find(version)?, key, created)
}

/// Offers `version` no longer. If it was the default, the newest other one becomes that, which is the answer.
///
/// # Errors
/// If it is not published, or machines would be left without any.
pub fn withdraw(
    store: &Store,
    version: &str,
    key: &SecretKey,
    created: u64,
) -> Result<Option<Chosen>, Error> {
    let (dist, _) = Dist::open(&store.dist, &store.keys)?;
    let image = store.find(version)?;
    let next = match image.standing {
        Standing::Default => {
            let others = store.list()?.into_iter();
            let next =
                others.filter(|i| i.standing == Standing::Published).max_by_key(|i| i.serial);
            Some(next.ok_or_else(|| Error::Last(image.version.clone()))?)
        }
        Standing::Published | Standing::Withdrawn => None,
    };
    let chosen = next.map(|next| point(store, &dist, &next, key, created)).transpose()?;
    write_file(&store.dist.join(&image.folder).join(WITHDRAWN), b"")?;
    Ok(chosen)
}

fn point(
    store: &Store,
    dist: &Dist,
    image: &Published,
    key: &SecretKey,
    created: u64,
) -> Result<Chosen, Error> {
    if image.standing == Standing::Default {
        return Ok(Chosen { version: image.version.clone(), serial: image.serial, already: true });
    }
    let serial = dist.next_serial(&store.keys)?;
    let words = format!("name:{} version:{}", image.name, image.version);
    let release = Release {
        format: 1,
        name: image.name.clone(),
        version: image.version.clone(),
        serial,
        created,
        allow_downgrade: false,
        index: sign_index(store, image, serial, key, &words)?,
        image: ImageFile {
            path: format!("{}/{IMAGE}", image.folder),
            size: image.packed,
            installed_size: image.installed,
            entries: image.entries as u64,
        },
        kernel: kernel(store, image)?,
    };
    let text = release.to_toml();
    let signature = key.sign(Claim { kind: Kind::Release, serial }, &words, text.as_bytes())?;
    let mark = store.dist.join(&image.folder).join(WITHDRAWN);
    match fs::remove_file(&mark) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::of("removing", &mark)(e).into());
        }
        _ => {}
    }
    dist.point(&text, &signature)?;
    Ok(Chosen { version: image.version.clone(), serial, already: false })
}

/// The kernel and the initramfs that were published beside the image, if there are any.
fn kernel(store: &Store, image: &Published) -> Result<Option<Kernel>, Error> {
    let file = |name: &str| {
        let path = format!("{}/{name}", image.folder);
        match fs::read(store.dist.join(&path)) {
            Ok(bytes) => {
                let (size, sha256) = (bytes.len() as u64, Sha256::of(&bytes));
                Ok(Some(IndexFile { path, size, sha256 }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FileError::of("reading", &store.dist.join(&path))(e)),
        }
    };
    let files = file(KERNEL)?.zip(file(INITRAMFS)?);
    Ok(files.map(|(image, initramfs)| Kernel { image, initramfs }))
}

/// The image's index with another serial, which has to be that of the release, beside the one that it has.
fn sign_index(
    store: &Store,
    image: &Published,
    serial: Serial,
    key: &SecretKey,
    words: &str,
) -> Result<IndexFile, Error> {
    let mut index = store.index(&image.folder)?;
    index.serial = serial;
    let path = format!("{}/index-{serial}.cbor.zst", image.folder);
    let file = store.dist.join(&path);
    let bytes =
        index.to_bytes(LEVEL).map_err(|source| Error::Index { path: file.clone(), source })?;
    let signature = key.sign(Claim { kind: Kind::Index, serial }, words, bytes.as_slice())?;
    write_file(&file, &bytes)?;
    write_file(&store.dist.join(format!("{path}.minisig")), signature.as_bytes())?;
    let folder = store.dist.join(&image.folder);
    fs::File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::of("flushing", &folder))?;
    Ok(IndexFile { path, size: bytes.len() as u64, sha256: Sha256::of(&bytes) })
}
