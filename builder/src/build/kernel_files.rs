//! The kernel of a system: which release it is, and where it lies.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How kernels are called in `/boot`, before their release: by the kernel's own `make install`, genkernel and distributions.
const NAMES: [&str; 3] = ["vmlinuz-", "kernel-", "bzImage-"];

/// A kernel whose modules are there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFiles {
    /// As `uname -r` says it.
    pub release: String,
    /// The image.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// There is not one kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None at all.
    #[error(
        "there is no kernel with modules in {0}: /boot/vmlinuz-RELEASE and /lib/modules/RELEASE belong together. \
         kernel.package in build.toml says which one to install"
    )]
    None(PathBuf),
    /// More than one.
    #[error("there are several kernels in {0}, {1}: remove all but one")]
    Several(PathBuf, String),
    /// Reading failed.
    #[error("reading {0}")]
    Io(PathBuf, #[source] io::Error),
}

impl KernelFiles {
    /// The kernel of the system below `root`.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(root: &Path) -> Result<Self, Error> {
        let boot = root.join("boot");
        let entries = match fs::read_dir(&boot) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::None(root.to_owned()));
            }
            entries => entries.map_err(|e| Error::Io(boot.clone(), e))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let image = entry.map_err(|e| Error::Io(boot.clone(), e))?.path();
            let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(release) = NAMES.iter().find_map(|start| name.strip_prefix(start)) else {
                continue;
            };
            let modules = root.join("lib/modules").join(release);
            if modules.is_dir() {
                found.push(Self { release: release.to_owned(), image, modules });
            }
        }
        found.sort_by(|a, b| a.release.cmp(&b.release));
        match found.as_slice() {
            [] => Err(Error::None(root.to_owned())),
            [one] => Ok(one.clone()),
            several => {
                let releases: Vec<&str> = several.iter().map(|k| k.release.as_str()).collect();
                Err(Error::Several(root.to_owned(), releases.join(" and ")))
            }
        }
    }

    /// Where the initramfs of a kernel is, below the root of its system.
    pub fn initramfs(&self) -> String {
        format!("boot/initramfs-{}.img", self.release)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_one_whose_modules_are_there() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path);
        let find = || KernelFiles::find(root.path());
        assert!(matches!(find(), Err(Error::None(_))));
        fs::create_dir(path("boot")).unwrap();
        for file in ["vmlinuz-6.12.0-gentoo", "vmlinuz-old", "config-6.12.0-gentoo", "kernel-6.6.1"]
        {
            fs::write(path("boot").join(file), "").unwrap();
        }
        assert!(matches!(find(), Err(Error::None(_))));
        fs::create_dir_all(path("lib/modules/6.12.0-gentoo")).unwrap();
        let found = find().unwrap();
        assert_eq!(found.release, "6.12.0-gentoo");
        assert_eq!(found.image, path("boot/vmlinuz-6.12.0-gentoo"));
        assert_eq!(found.initramfs(), "boot/initramfs-6.12.0-gentoo.img");
        fs::create_dir_all(path("lib/modules/6.6.1")).unwrap();
        let error = find().unwrap_err().to_string();
        assert!(error.contains("6.12.0-gentoo and 6.6.1"), "{error}");
    }
}
