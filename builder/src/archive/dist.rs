//! The published tree, DIST: which serial is next, and how a new release gets in whole or not at all.
//!
//! The order in which a release becomes visible, and why:
//!
//! 1. The image is made in a hidden folder beside the others, on the same file system, and flushed.
//! 2. `latest.toml` and its signature are written under hidden names, and flushed. From here on
//!    nothing has to be written any more, so a full disk cannot leave half a release.
//! 3. The image's folder gets its name. Nothing points at it yet.
//! 4. The signature is renamed, and then `latest.toml`. Two files cannot change at one moment: in the
//!    gap between the two renames a machine sees a signature that does not fit, keeps what it has, and
//!    asks again. The signature goes first, so that there is a single point at which the release is
//!    out: the rename of `latest.toml`, which is the last step.
//! 5. If the power fails in that gap, the hidden `latest.toml` is still there and the signature fits
//!    it. So the next `gse` finishes the work before it does anything else.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Release, Serial,
    release::MAX_RELEASE,
    sign::{Keys, Kind, MAX_SIGNATURE, Signature},
};
use tempfile::TempDir;

use super::error::Error;
use crate::lock::FolderLock;

/// The release pointer.
pub const RELEASE: &str = "latest.toml";
/// Its signature.
pub const RELEASE_SIGNATURE: &str = "latest.toml.minisig";
const NEW_RELEASE: &str = ".latest.toml.new";
const NEW_SIGNATURE: &str = ".latest.toml.minisig.new";
const WORK: &str = ".unfinished-";

/// A published tree that no other process changes meanwhile.
pub(crate) struct Dist {
    path: PathBuf,
    /// Keeps the lock.
    directory: FolderLock,
}

impl Dist {
    /// Makes the folders that are missing, locks, and clears away what an interrupted run left.
    /// Returns also the release that was finished, if one had been interrupted in its last step.
    pub(crate) fn open(path: &Path, keys: &Keys) -> Result<(Self, Option<Release>), Error> {
        let images = path.join("images");
        fs::create_dir_all(&images).map_err(Error::write("making the folder", &images))?;
        let directory = FolderLock::take(path)
            .map_err(Error::write("locking", path))?
            .ok_or_else(|| Error::Busy(path.to_owned()))?;
        let dist = Self { path: path.to_owned(), directory };
        let finished = dist.finish_interrupted(keys)?;
        dist.remove_unfinished(&images)?;
        Ok((dist, finished))
    }

    /// The serial that the next release has: one more than any that was ever signed here.
    pub(crate) fn next_serial(&self, keys: &Keys) -> Result<Serial, Error> {
        let release = self.previous(keys)?.map(|r| r.serial);
        let highest = self.image_serials(keys)?.into_iter().chain(release).max();
        Ok(Serial(highest.map_or(0, |s| s.0).saturating_add(1)))
    }

    /// The published release.
    pub(crate) fn previous(&self, keys: &Keys) -> Result<Option<Release>, Error> {
        let (path, signature) = (self.path.join(RELEASE), self.path.join(RELEASE_SIGNATURE));
        match (read(&path, MAX_RELEASE)?, read(&signature, MAX_SIGNATURE)?) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::Unsigned(path)),
            (Some(_), None) => Err(Error::Unsigned(signature)),
            (Some(text), Some(signature)) => open_release(&text, &signature, keys)
                .map(Some)
                .map_err(|source| Error::Previous { path, source }),
        }
    }

    /// Of the images that a known key signed. They matter when the release pointer went back to an
    /// older image or was lost: machines remember the highest serial.
    fn image_serials(&self, keys: &Keys) -> Result<Vec<Serial>, Error> {
        let images = self.path.join("images");
        let listing = |source| Error::write("listing", &images)(source);
        let mut serials = Vec::new();
        for folder in fs::read_dir(&images).map_err(listing)? {
            let path = folder.map_err(listing)?.path().join("index.cbor.zst.minisig");
            let Ok(Some(text)) = read(&path, MAX_SIGNATURE) else { continue };
            let signature = String::from_utf8_lossy(&text).parse::<Signature>();
            serials.extend(signature.and_then(|s| s.claim(Kind::Index, keys)).map(|c| c.serial));
        }
        Ok(serials)
    }

    /// The folders of the last `most` images with this name that a known key signed, the newest first.
    pub(super) fn last_images(
        &self,
        name: &str,
        keys: &Keys,
        most: usize,
    ) -> Result<Vec<PathBuf>, Error> {
        let images = self.path.join("images");
        let listing = |source| Error::write("listing", &images)(source);
        let mut found = Vec::new();
        for folder in fs::read_dir(&images).map_err(listing)? {
            let folder = folder.map_err(listing)?;
            if !folder.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
                continue;
            }
            let path = folder.path();
            let Ok(Some(text)) = read(&path.join("index.cbor.zst.minisig"), MAX_SIGNATURE) else {
                continue;
            };
            let signature = String::from_utf8_lossy(&text).parse::<Signature>();
            let claim = signature.and_then(|s| s.claim(Kind::Index, keys));
            found.extend(claim.map(|claim| (claim.serial, path)));
        }
        found.sort_unstable();
        Ok(found.into_iter().rev().map(|(_, path)| path).take(most).collect())
    }

    /// A hidden folder to make an image in, which is removed unless it is published.
    pub(super) fn work_folder(&self) -> Result<TempDir, Error> {
        let images = self.path.join("images");
        let made = tempfile::Builder::new()
            .prefix(WORK)
            // A server that runs as somebody else has to read it.
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&images);
        made.map_err(Error::write("making a folder in", images))
    }

    /// Makes the image in `work` the folder `image`, and `release` the one that machines see.
    pub(super) fn publish(
        &self,
        work: TempDir,
        image: &str,
        release: &str,
        signature: &str,
    ) -> Result<PathBuf, Error> {
        let folder = self.path.join(image);
        let prepare = || {
            sync_folder(work.path())?;
            self.write_new(release, signature)?;
            fs::rename(work.path(), &folder).map_err(Error::write("renaming", &folder))
        };
        if let Err(error) = prepare() {
            self.remove_new();
            return Err(error);
        }
        // It has another name now, so there is nothing to remove.
        let _ = work.keep();
        let begin = || {
            sync_folder(&self.path.join("images"))?;
            self.rename(NEW_SIGNATURE, RELEASE_SIGNATURE)
        };
        if let Err(error) = begin() {
            self.remove_new();
            fs::remove_dir_all(&folder).map_err(Error::write("removing", &folder))?;
            return Err(error);
        }
        self.rename(NEW_RELEASE, RELEASE)?;
        self.sync()?;
        Ok(folder)
    }

    /// Makes the image in `work` the folder `image`, and leaves the release that machines see as it is.
    pub(super) fn keep(&self, work: TempDir, image: &str) -> Result<PathBuf, Error> {
        let folder = self.path.join(image);
        sync_folder(work.path())?;
        fs::rename(work.path(), &folder).map_err(Error::write("renaming", &folder))?;
        // It has another name now, so there is nothing to remove.
        let _ = work.keep();
        sync_folder(&self.path.join("images"))?;
        Ok(folder)
    }

    /// Does what [`Dist::publish`] would have done next, if it was cut off after the image was in.
    fn finish_interrupted(&self, keys: &Keys) -> Result<Option<Release>, Error> {
        let Some(text) = read(&self.path.join(NEW_RELEASE), MAX_RELEASE)? else { return Ok(None) };
        for (name, renamed) in [(RELEASE_SIGNATURE, true), (NEW_SIGNATURE, false)] {
            let Some(signature) = read(&self.path.join(name), MAX_SIGNATURE)? else { continue };
            let Ok(release) = open_release(&text, &signature, keys) else { continue };
            if !self.path.join(&release.index.path).exists() {
                continue;
            }
            if !renamed {
                self.rename(NEW_SIGNATURE, RELEASE_SIGNATURE)?;
            }
            self.rename(NEW_RELEASE, RELEASE)?;
            self.sync()?;
            return Ok(Some(release));
        }
        self.remove_new();
        Ok(None)
    }

    fn remove_unfinished(&self, images: &Path) -> Result<(), Error> {
        let listing = |source| Error::write("listing", images)(source);
        for folder in fs::read_dir(images).map_err(listing)? {
            let folder = folder.map_err(listing)?;
            if folder.file_name().to_string_lossy().starts_with(WORK) {
                let path = folder.path();
                fs::remove_dir_all(&path).map_err(Error::write("removing", path))?;
            }
        }
        Ok(())
    }

    /// Makes `release` the one that machines see; what it points at is there already, flushed.
    pub(crate) fn point(&self, release: &str, signature: &str) -> Result<(), Error> {
        let begun = self
            .write_new(release, signature)
            .and_then(|()| self.rename(NEW_SIGNATURE, RELEASE_SIGNATURE));
        if let Err(error) = begun {
            self.remove_new();
            return Err(error);
        }
        self.rename(NEW_RELEASE, RELEASE)?;
        self.sync()
    }

    fn write_new(&self, release: &str, signature: &str) -> Result<(), Error> {
        write_file(&self.path.join(NEW_RELEASE), release.as_bytes())?;
        write_file(&self.path.join(NEW_SIGNATURE), signature.as_bytes())?;
        self.sync()
    }

    fn remove_new(&self) {
        // Left there, they do no harm: the next run tries again.
        let _ = fs::remove_file(self.path.join(NEW_RELEASE));
        let _ = fs::remove_file(self.path.join(NEW_SIGNATURE));
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let to = self.path.join(to);
        fs::rename(self.path.join(from), &to).map_err(Error::write("renaming", to))
    }

    fn sync(&self) -> Result<(), Error> {
        self.directory.sync_all().map_err(Error::write("flushing", &self.path))
    }
}

/// The folder of an image, relative to DIST, which must not be there yet.
pub(super) fn new_image(dist: &Path, name: &str, version: &str) -> Result<String, Error> {
    let relative = format!("images/{name}-{version}");
    let path = dist.join(&relative);
    match path.symlink_metadata() {
        Ok(_) => Err(Error::Exists(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(relative),
        Err(e) => Err(Error::write("looking at", path)(e)),
    }
}

fn open_release(
    text: &[u8],
    signature: &[u8],
    keys: &Keys,
) -> Result<Release, gse_protocol::release::Error> {
    Release::open(text, &String::from_utf8_lossy(signature), keys)
}

/// The file's bytes, or one more than `most` of them; `None` if there is no such file.
fn read(path: &Path, most: usize) -> Result<Option<Vec<u8>>, Error> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let file = File::open(path);
    match file.and_then(|f| f.take(most as u64 + 1).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::write("reading", path)(e)),
    }
}

/// Writes a file, and waits until it is on disk.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(Error::write("writing", path))
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|f| f.sync_all()).map_err(Error::write("flushing", path))
}
