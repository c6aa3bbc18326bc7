//! `--default=V` and `--withdraw=V`: to which image the release points.

use std::{fs, io};

use gse_protocol::{
    Release, Serial,
    release::{ImageFile, Kernel, WholeFile},
    sign::{Claim, Kind},
};
use serde::Serialize;

use super::{Error, Published, Standing, Store, store::WITHDRAWN};
use crate::{
    archive::{Dist, IMAGE, INITRAMFS, KERNEL, published_index, write_file},
    file_error::FileError,
    keys::SecretKey,
};

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
        index: published_index(&store.dist, &image.folder, &store.index(&image.folder)?)?,
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
            Ok(bytes) => Ok(Some(WholeFile::of(path, &bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FileError::of("reading", &store.dist.join(&path))(e)),
        }
    };
    let files = file(KERNEL)?.zip(file(INITRAMFS)?);
    Ok(files.map(|(image, initramfs)| Kernel { image, initramfs }))
}
