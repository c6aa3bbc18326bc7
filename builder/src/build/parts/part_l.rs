//! Part L: the image, signed, and the release by which machines take it; and what they start it with.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{
    archive::{self, ArchiveOptions, Summary},
    build::{Error, Publish, kernel_files::KernelFiles},
    keys::SecretKey,
    progress::Progress,
};

/// `gmark`
pub(in crate::build) fn mark(
    publish: &Publish,
    key: &SecretKey,
    tree: &Path,
    latest: bool,
    progress: &Progress,
) -> Result<Summary, Error> {
    let options = ArchiveOptions {
        tree,
        name: &publish.name,
        version: &publish.version,
        dist: &publish.dist,
        key,
        older_keys: &publish.older_keys,
        level: publish.level,
        allow_downgrade: publish.allow_downgrade,
        kernel: None,
        latest,
        created: publish.created,
        until: publish.until,
        patches: publish.patches,
        threads: archive::cores(),
    };
    Ok(archive::archive(&options, progress)?)
}

/// Puts the kernel and the controller's initramfs of the system where boot loaders fetch them:
/// `controller/RELEASE/vmlinuz` and `initramfs.img`, as `gse --build-controller` has it. The answer is that folder.
pub(in crate::build) fn publish_kernel(tree: &Path, dist: &Path) -> Result<PathBuf, Error> {
    let kernel = KernelFiles::find(tree)?;
    let folder = dist.join("controller").join(&kernel.release);
    fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
    let initramfs = tree.join(kernel.initramfs());
    for (from, name) in [(&kernel.image, "vmlinuz"), (&initramfs, "initramfs.img")] {
        let (new, to) = (folder.join(format!(".{name}.gse-new")), folder.join(name));
        fs::copy(from, &new)
            .and_then(|_| File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, &to))
            .map_err(Error::io("writing", &to))?;
    }
    Ok(folder)
}
