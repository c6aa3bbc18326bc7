//! Part L: the image, signed, and the release by which machines take it; and what they start it with.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{
    archive::{self, ArchiveOptions, INITRAMFS, KERNEL, Summary},
    build::{
        Error, Options, Publish,
        kernel_files::{self, KernelFiles},
    },
    keys::SecretKey,
    progress::Progress,
};

/// A system's kernel, and the controller's initramfs for it.
pub(in crate::build) struct Boot {
    release: String,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Boot {
    /// What parts H and I made or were given; none where the tree has no kernel, or no initramfs for it.
    pub(in crate::build) fn find(options: &Options, tree: &Path) -> Result<Option<Self>, Error> {
        let files = match KernelFiles::find(tree) {
            Err(kernel_files::Error::None(_)) => return Ok(None),
            files => files?,
        };
        let initramfs = match &options.initrd {
            Some(ready) => ready.clone(),
            None => tree.join(files.initramfs()),
        };
        let boot = Self { release: files.release, kernel: files.image, initramfs };
        Ok(boot.initramfs.is_file().then_some(boot))
    }

    /// Puts both where boot loaders fetch them: `controller/RELEASE/vmlinuz` and `initramfs.img`, as `gse --build-controller` has
    /// it. The answer is that folder.
    pub(in crate::build) fn publish(&self, dist: &Path) -> Result<PathBuf, Error> {
        let folder = dist.join("controller").join(&self.release);
        fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
        for (from, name) in [(&self.kernel, KERNEL), (&self.initramfs, INITRAMFS)] {
            let (new, to) = (folder.join(format!(".{name}.gse-new")), folder.join(name));
            fs::copy(from, &new)
                .and_then(|_| File::open(&new)?.sync_all())
                .and_then(|()| fs::rename(&new, &to))
                .map_err(Error::io("writing", &to))?;
        }
        Ok(folder)
    }
}

/// `gmark`. With `boot`, machines that start from their own disk get a new kernel with the release.
pub(in crate::build) fn mark(
    publish: &Publish,
    key: &SecretKey,
    tree: &Path,
    boot: Option<&Boot>,
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
        kernel: boot.map(|boot| [boot.kernel.as_path(), boot.initramfs.as_path()]),
        latest,
        created: publish.created,
        until: publish.until,
        patches: publish.patches,
        threads: archive::cores(),
    };
    Ok(archive::archive(&options, progress)?)
}
