//! What is mounted in the tree while programs run inside it. The namespace of the build alone sees it.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};

/// What is shown inside the tree, by its path there.
pub const INSIDE: &str = "run/gse";

/// Devices that programs expect; those of this machine's disks are none of a build's business.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in `/dev`, as every Linux has them.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// One thing to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A filesystem of the kernel's.
    Kernel {
        /// Its type.
        kind: &'static str,
        /// Relative to the tree.
        target: &'static str,
        /// Of mount(2).
        data: &'static str,
        /// Whether the tree may change it.
        writable: bool,
    },
    /// A folder of this machine's, which the tree can write.
    Share {
        /// On this machine.
        source: PathBuf,
        /// Relative to the tree, in a filesystem that is mounted before.
        target: PathBuf,
    },
    /// A file or folder of this machine's, which the tree can read.
    Show {
        /// On this machine.
        source: PathBuf,
        /// Relative to the tree, in a filesystem that is mounted before.
        target: PathBuf,
    },
    /// A device of this machine's.
    Device(&'static str),
}

/// Mounting failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path} for the programs that run inside the new system")]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What a chroot needs: the kernel's filesystems, a few devices, and what it is to be `shown`, by names below [`INSIDE`].
pub fn wanted(shown: &[(PathBuf, String)]) -> Vec<Mount> {
    let kernel = |kind, target, data, writable| Mount::Kernel { kind, target, data, writable };
    let mut mounts = vec![
        kernel("proc", "proc", "", true),
        kernel("sysfs", "sys", "", false),
        kernel("tmpfs", "dev", "mode=755", true),
        kernel("tmpfs", "run", "mode=755", true),
        kernel("tmpfs", "tmp", "mode=1777", true),
        kernel("tmpfs", "dev/shm", "mode=1777", true),
        kernel("devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=620,gid=5", true),
    ];
    mounts.extend(DEVICES.map(Mount::Device));
    mounts.extend(shown.iter().map(|(source, name)| Mount::Show {
        source: source.clone(),
        target: Path::new(INSIDE).join(name),
    }));
    mounts
}

/// Mounts in a tree. They go when this does.
#[derive(Debug)]
pub struct Mounts {
    /// In the order in which they were mounted.
    done: Vec<PathBuf>,
}

impl Mounts {
    /// Mounts all of it.
    ///
    /// # Errors
    /// The first that fails; nothing stays mounted then.
    pub fn new(tree: &Path, mounts: &[Mount]) -> Result<Self, Error> {
        let mut made = Self { done: Vec::new() };
        for mount in mounts {
            made.add(tree, mount)?;
        }
        for (target, name) in LINKS {
            let link = tree.join("dev").join(name);
            symlink(target, &link).map_err(failed("linking", &link))?;
        }
        Ok(made)
    }

    fn add(&mut self, tree: &Path, wanted: &Mount) -> Result<(), Error> {
        let target = match wanted {
            Mount::Kernel { kind, target, data, writable } => {
                let target = tree.join(target);
                folder(&target)?;
                let mut flags = MountFlags::NOSUID;
                flags.set(MountFlags::RDONLY, !writable);
                let data = CString::new(*data).unwrap_or_default();
                mount(*kind, &target, *kind, flags, data.as_c_str())
                    .map_err(|e| failed("mounting", &target)(e.into()))?;
                target
            }
            Mount::Share { source, target } => {
                let target = tree.join(target);
                bind(source, &target)?;
                target
            }
            Mount::Show { source, target } => {
                let target = tree.join(target);
                bind(source, &target)?;
                mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")
                    .map_err(|e| failed("mounting", &target)(e.into()))?;
                target
            }
            Mount::Device(name) => {
                let target = tree.join("dev").join(name);
                bind(&Path::new("/dev").join(name), &target)?;
                // It can be written all the same; its owner and mode on this machine cannot.
                mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")
                    .map_err(|e| failed("mounting", &target)(e.into()))?;
                target
            }
        };
        self.done.push(target);
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for target in self.done.iter().rev() {
            // What a daemon in the tree still holds goes with the namespace; here it only has to be out of sight.
            if let Err(e) = unmount(target, UnmountFlags::DETACH) {
                eprintln!("gse: unmounting {}: {e}", target.display());
            }
        }
    }
}

fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    if source.is_dir() {
        folder(target)?;
    } else {
        if let Some(parent) = target.parent() {
            folder(parent)?;
        }
        File::create(target).map_err(failed("making", target))?;
    }
    mount_bind(source, target).map_err(|e| failed("mounting", target)(e.into()))?;
    mount_change(target, MountPropagationFlags::PRIVATE)
        .map_err(|e| failed("mounting", target)(e.into()))
}

/// Makes a folder to mount on. A link there would lead out of the tree.
fn folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(failed("making", path))?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => {
            Err(failed("mounting", path)(io::Error::other("this is a link, and not a folder")))
        }
        Err(e) => Err(failed("looking at", path)(e)),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error { doing, path, source }
}
