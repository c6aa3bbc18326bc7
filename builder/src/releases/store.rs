//! The images in DIST, as their signed indexes describe them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use gse_protocol::{Index, Release, Serial, sign::Keys};
use serde::Serialize;

use super::Error;
use crate::{
    archive::{IMAGE, INDEX, RELEASE, RELEASE_SIGNATURE, tree_bytes},
    file_error::FileError,
};

/// In an image's folder: it is not offered. Servers pass hidden files over.
pub(super) const WITHDRAWN: &str = ".withdrawn";

/// How an image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Machines take it.
    Default,
    /// It can become the default.
    Published,
    /// It must not be taken any more.
    Withdrawn,
}

/// An image that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Of the image.
    pub name: String,
    /// Of the image.
    pub version: String,
    /// Of the release that it was made for; of the one that points at it now, if it is the default.
    pub serial: Serial,
    /// How it stands.
    pub standing: Standing,
    /// Bytes of the packed image.
    pub packed: u64,
    /// Bytes of file data, once installed.
    pub installed: u64,
    /// How many entries the tree has.
    pub entries: usize,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// Its folder, relative to DIST.
    pub folder: String,
}

/// A published tree that is only read.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where it is.
    pub dist: PathBuf,
    /// Those that may have signed what is in it.
    pub keys: Keys,
}

impl Store {
    /// All images, the newest first.
    ///
    /// # Errors
    /// If one cannot be read, or was signed by another key.
    pub fn list(&self) -> Result<Vec<Published>, Error> {
        let images = self.dist.join("images");
        let folders = match fs::read_dir(&images) {
            Ok(folders) => folders,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(FileError::of("listing", &images)(e).into()),
        };
        let release = self.release()?;
        let mut found = Vec::new();
        for folder in folders {
            let folder = folder.map_err(FileError::of("listing", &images))?;
            let name = folder.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && folder.path().is_dir() {
                found.push(self.describe(&format!("images/{name}"), release.as_ref())?);
            }
        }
        found.sort_by_key(|image| std::cmp::Reverse(image.serial));
        Ok(found)
    }

    fn describe(&self, folder: &str, release: Option<&Release>) -> Result<Published, Error> {
        let index = self.index(folder)?;
        let path = self.dist.join(folder);
        let image = path.join(IMAGE);
        let metadata = fs::metadata(&image).map_err(FileError::of("looking at", &image))?;
        let made = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let current = release.filter(|r| r.image.path == format!("{folder}/{IMAGE}"));
        let standing = match current {
            Some(_) => Standing::Default,
            None if path.join(WITHDRAWN).exists() => Standing::Withdrawn,
            None => Standing::Published,
        };
        Ok(Published {
            serial: current.map_or(index.serial, |release| release.serial),
            standing,
            packed: metadata.len(),
            installed: tree_bytes(&index),
            entries: index.entries.len(),
            made: made.map_or(0, |since| since.as_secs()),
            folder: folder.to_owned(),
            name: index.name,
            version: index.version,
        })
    }

    /// The release that machines see, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, or was signed by another key.
    pub fn release(&self) -> Result<Option<Release>, Error> {
        let path = self.dist.join(RELEASE);
        let Some(text) = existing(&path)? else { return Ok(None) };
        let signature = self.dist.join(RELEASE_SIGNATURE);
        let signature =
            fs::read_to_string(&signature).map_err(FileError::of("reading", &signature))?;
        let release = Release::open(&text, &signature, &self.keys);
        release.map(Some).map_err(|source| Error::Release { path, source })
    }

    /// The index with which an image was published.
    ///
    /// # Errors
    /// If it cannot be read, or was signed by another key.
    pub fn index(&self, folder: &str) -> Result<Index, Error> {
        let path = self.dist.join(folder).join(INDEX);
        let bytes = fs::read(&path).map_err(FileError::of("reading", &path))?;
        let signature = path.with_file_name(format!("{INDEX}.minisig"));
        let signature =
            fs::read_to_string(&signature).map_err(FileError::of("reading", &signature))?;
        Index::open(&bytes, &signature, &self.keys).map_err(|source| Error::Index { path, source })
    }

    /// The one image of a version, or of a folder's name.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, version: &str) -> Result<Published, Error> {
        let all = self.list()?;
        let fits = |image: &&Published| {
            image.version == version || image.folder == format!("images/{version}")
        };
        let found: Vec<&Published> = all.iter().filter(fits).collect();
        let join = |images: Vec<&str>| images.join(", ");
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Error::Unknown {
                version: version.to_owned(),
                dist: self.dist.clone(),
                known: join(all.iter().map(|image| image.version.as_str()).collect()),
            }),
            several => Err(Error::Ambiguous {
                version: version.to_owned(),
                folders: join(
                    several.iter().map(|i| i.folder.trim_start_matches("images/")).collect(),
                ),
            }),
        }
    }
}

fn existing(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::of("reading", path)(e).into()),
    }
}
