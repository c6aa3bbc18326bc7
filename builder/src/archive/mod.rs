//! Parts K and L: an image of a root tree, and the release that points at it.
//!
//! The work, in its order: list the tree ([`walk`]), decide where everything will be ([`layout`]),
//! read, hash and compress on all cores ([`pack`]), write, checksum and sign ([`image`]), make the
//! index, and publish it all at one moment ([`dist`]).

mod acl;
mod dist;
mod error;
mod fill;
mod header;
mod image;
mod index_file;
mod layout;
mod pack;
mod patches;
mod pool;
mod scan;
mod sparse;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use gse_protocol::{
    Index, Release, Serial,
    index::{self, Kind},
    release::{ImageFile, Kernel, WholeFile, is_safe_path},
    sign::{self, Claim, Keys, PublicKey},
};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;

pub(crate) use self::{
    dist::{Dist, write_file},
    index_file::published as published_index,
};
pub use self::{
    dist::{RELEASE, RELEASE_SIGNATURE},
    error::Error,
    layout::FRAME,
    walk::Note,
};
use self::{image::Written, pool::Pool, walk::Tree};
use crate::{keys::SecretKey, progress::Progress};

/// The image, in its folder.
pub const IMAGE: &str = "system.tar.zst";
/// The index, in the same folder.
pub const INDEX: &str = "index.cbor.zst";
/// The kernel, where the release brings one.
pub const KERNEL: &str = "vmlinuz";
/// Its initramfs.
pub const INITRAMFS: &str = "initramfs.img";

/// From how many of the last images patches are made, unless something else is asked for.
pub const PATCHES: usize = 2;

/// What to archive, and what to make of it.
pub struct ArchiveOptions<'a> {
    /// The root tree, a directory.
    pub tree: &'a Path,
    /// Of the image; with `version` it names the folder.
    pub name: &'a str,
    /// Of the image. A version that was published is never made again.
    pub version: &'a str,
    /// Where images are published; made if it is missing.
    pub dist: &'a Path,
    /// Signs everything.
    pub key: &'a SecretKey,
    /// Keys besides `key` that may have signed the previous release: older ones.
    pub older_keys: &'a [PublicKey],
    /// Of zstd, 1 to 22.
    pub level: i32,
    /// See [`Release::allow_downgrade`].
    pub allow_downgrade: bool,
    /// A kernel whose modules the tree has, and the controller's initramfs for it.
    pub kernel: Option<[&'a Path; 2]>,
    /// Whether it becomes the release that machines take next, or else only lies ready.
    pub latest: bool,
    /// Now, in seconds since 1970.
    pub created: u64,
    /// The latest time that a file in the image may have, in seconds since 1970: files with a later one get this. So a tree
    /// that is made again makes the same image.
    pub until: Option<u64>,
    /// From how many of the last images with this name machines get patches.
    pub patches: usize,
    /// How many cores to use.
    pub threads: NonZero<usize>,
}

/// What was made.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Of the image.
    pub name: String,
    /// Of the image.
    pub version: String,
    /// Of the release.
    pub serial: Serial,
    /// The image's folder.
    pub path: PathBuf,
    /// How many entries the tree has.
    pub entries: u64,
    /// Bytes of file data, without holes and with each hard link counted once.
    pub bytes: u64,
    /// Bytes of the tar.
    pub tar: u64,
    /// Bytes of the tar, packed.
    pub packed: u64,
    /// How many frames it has.
    pub frames: u64,
    /// The patch files.
    pub patches: Vec<PatchSummary>,
    /// How long it took.
    pub seconds: f64,
}

/// A patch file that was made.
#[derive(Debug, Clone, Serialize)]
pub struct PatchSummary {
    /// The version that it starts from.
    pub from: String,
    /// In bytes.
    pub size: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The number of cores that this process may use.
pub fn cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Makes a signed image of a tree, and publishes it as the release that machines take next. Either all
/// of it is done, or nothing is left behind.
pub fn archive(options: &ArchiveOptions<'_>, progress: &Progress) -> Result<Summary, Error> {
    let started = Instant::now();
    check_names(options.name, options.version)?;
    let root = open_tree(options.tree)?;
    let keys = Keys([&[options.key.public().clone()], options.older_keys].concat());
    refuse_inside(options)?;
    let (dist, finished) = Dist::open(options.dist, &keys)?;
    if let Some(release) = finished {
        let Release { name, version, serial, .. } = release;
        progress.note(&format!("finished publishing {name} {version} as serial {serial}"));
    }
    let serial = dist.next_serial(&keys)?;
    let folder = dist::new_image(options.dist, options.name, options.version)?;

    let mut tree = walk::walk(root, options.threads)?;
    if let Some(until) = options.until {
        tree.settle(until);
    }
    for note in &tree.notes {
        progress.note(&note.to_string());
    }
    let layout = layout::lay_out(&mut tree.entries)?;

    let work = dist.work_folder()?;
    progress.begin("packing", layout.size());
    let made = make_image(options, serial, &mut tree, &layout, work.path(), progress);
    progress.finish();
    let (written, mut index) = made?;
    let bytes = tree_bytes(&index);
    let (patches, older) = patches::make(options, &dist, &keys, &mut index, work.path(), progress)?;

    let release = Release {
        format: 1,
        name: options.name.to_owned(),
        version: options.version.to_owned(),
        serial,
        created: options.created,
        allow_downgrade: options.allow_downgrade,
        index: index_file::write(options, &index, older, &folder, work.path())?,
        image: ImageFile {
            path: format!("{folder}/{IMAGE}"),
            size: written.size,
            installed_size: bytes,
            entries: index.entries.len() as u64,
        },
        kernel: options.kernel.map(|files| copy_kernel(files, &folder, work.path())).transpose()?,
    };
    let path = if options.latest {
        let text = release.to_toml();
        let claim = Claim { kind: sign::Kind::Release, serial };
        let signature = options.key.sign(claim, &words(options), text.as_bytes())?;
        dist.publish(work, &folder, &text, &signature)?
    } else {
        dist.keep(work, &folder)?
    };
    Ok(Summary {
        name: release.name,
        version: release.version,
        serial,
        path,
        entries: release.image.entries,
        bytes,
        tar: layout.size(),
        packed: written.size,
        frames: index.frames.len() as u64,
        patches,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether an image can be published under this name and version, as far as that is known before there is a tree.
///
/// # Errors
/// They are none of a folder, or there is such an image.
pub(crate) fn check_new(dist: &Path, name: &str, version: &str) -> Result<(), Error> {
    check_names(name, version)?;
    dist::new_image(dist, name, version).map(drop)
}

fn check_names(name: &str, version: &str) -> Result<(), Error> {
    for (what, value) in [("name", name), ("version", version)] {
        if !is_safe_path(value, 1) {
            return Err(Error::Label { what, value: value.to_owned() });
        }
    }
    Ok(())
}

fn open_tree(path: &Path) -> Result<std::os::fd::OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::Tree { path: path.to_owned(), source: e.into() })
}

/// An image must not be written into the tree that it is made of.
fn refuse_inside(options: &ArchiveOptions<'_>) -> Result<(), Error> {
    let real = |path: &Path| path.canonicalize().map_err(Error::write("resolving", path));
    let tree = real(options.tree)?;
    // Of a DIST that is still to be made, the part that is there decides.
    let absolute =
        std::path::absolute(options.dist).map_err(Error::write("resolving", options.dist))?;
    let dist = absolute.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    if real(dist)?.starts_with(&tree) {
        return Err(Error::Inside { dist: options.dist.to_owned(), tree: options.tree.to_owned() });
    }
    Ok(())
}

/// What signatures tell people.
fn words(options: &ArchiveOptions<'_>) -> String {
    format!("name:{} version:{}", options.name, options.version)
}

/// Writes the image with its checksum and signature.
fn make_image(
    options: &ArchiveOptions<'_>,
    serial: Serial,
    tree: &mut Tree,
    layout: &layout::Layout,
    work: &Path,
    progress: &Progress,
) -> Result<(Written, Index), Error> {
    let path = work.join(IMAGE);
    let (level, threads) = (options.level, options.threads);
    let job = pack::Job { tree, layout, level, threads, progress };
    // One buffer a worker, as many to let the others go on while one frame takes longer, and those
    // that wait to be hashed.
    let capacity = zstd::zstd_safe::compress_bound(FRAME as usize);
    let pool = Pool::new(2 * threads.get() + image::HELD, capacity);
    let claim = Claim { kind: sign::Kind::Image, serial };
    let (written, packed) = image::write(&path, options.key, claim, &words(options), |sink| {
        pack::pack(&job, &pool, sink)
    })?;
    dist::write_file(
        &work.join(format!("{IMAGE}.sha512")),
        format!("{}  {IMAGE}\n", written.sha512).as_bytes(),
    )?;
    dist::write_file(&work.join(format!("{IMAGE}.minisig")), written.signature.as_bytes())?;

    pack::set_digests(tree, &packed.digests);
    let index = Index {
        format: index::FORMAT,
        name: options.name.to_owned(),
        version: options.version.to_owned(),
        serial,
        entries: std::mem::take(&mut tree.entries),
        frames: packed.frames,
        patches: Vec::new(),
    };
    index.check()?;
    Ok((written, index))
}

/// Copies a kernel and its initramfs beside the image. They are signed by their digests in the release.
fn copy_kernel(files: [&Path; 2], folder: &str, work: &Path) -> Result<Kernel, Error> {
    let copy = |from: &Path, name: &str| -> Result<WholeFile, Error> {
        let bytes = fs::read(from).map_err(Error::write("reading", from))?;
        dist::write_file(&work.join(name), &bytes)?;
        Ok(WholeFile::of(format!("{folder}/{name}"), &bytes))
    };
    let [image, initramfs] = files;
    Ok(Kernel { image: copy(image, KERNEL)?, initramfs: copy(initramfs, INITRAMFS)? })
}

pub(crate) fn tree_bytes(index: &Index) -> u64 {
    let stored = |kind: &Kind| match kind {
        Kind::File(content) => content.stored(),
        _ => 0,
    };
    index.entries.iter().map(|e| stored(&e.kind)).sum()
}
