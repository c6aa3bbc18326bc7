//! A whole lab in a directory: keys, a configuration, a published image, a controller, a server.
//!
//! Everything is done by the real `gse`, as an administrator would.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    device::{Disk, Nic},
    error::{Doing, Error, Result},
    fixtures::{self, Kernel},
    process,
    server::Server,
    spec::Spec,
};

/// The environment variable that names the directory of the built programs.
pub const BIN_DIR: &str = "GSE_BIN_DIR";

const GIB: u64 = 1 << 30;

/// What a slot is formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filesystem {
    /// With the root in a subvolume.
    #[default]
    Btrfs,
    /// ext4
    Ext4,
    /// XFS
    Xfs,
}

impl Filesystem {
    /// As `drives.toml` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// A lab: its files lie in one directory, and its server runs until the lab is dropped.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    gse: PathBuf,
    kernel: Kernel,
    server: Option<Server>,
    port: u16,
    slot: u64,
    filesystem: Filesystem,
}

impl Lab {
    /// Makes keys (unless there are some) and a configuration in `dir`, and starts the server. Nothing is
    /// published yet: that is [`Lab::publish`]; and there is no controller yet: that is [`Lab::build_controller`].
    ///
    /// `slot` is the size of each of the two slots in bytes; [`slot_for`] finds one that fits.
    pub fn new(dir: &Path, kernel: Kernel, slot: u64, filesystem: Filesystem) -> Result<Self> {
        let gse = program("gse")?;
        let dist = dir.join("dist.d");
        fs::create_dir_all(&dist).doing(|| format!("creating {}", dist.display()))?;
        // Before anything is there to serve: the configuration says where the server is.
        let server = Server::start(&gse, &dist, 0)?;
        let port = server.port();
        let lab =
            Self { dir: dir.to_owned(), gse, kernel, server: Some(server), port, slot, filesystem };
        if !lab.key().exists() {
            lab.run(|c| c.arg(equals("--keygen", &lab.key())))?;
        }
        copy_tree(&fixtures::repository().join("config.d"), &lab.config())?;
        lab.write_config("sources.toml", &lab.sources()?)?;
        lab.write_config("controller/drives.toml", &drives(slot, filesystem))?;
        lab.write_config("controller/machines.toml", "[[machine]]\nhostname = \"lab-{mac}\"\n")?;
        Ok(lab)
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The secret key; the public one is beside it, with `.pub`.
    pub fn key(&self) -> PathBuf {
        self.dir.join("gse.key")
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.d")
    }

    /// What is published.
    pub fn dist(&self) -> PathBuf {
        self.dir.join("dist.d")
    }

    /// The controller, once built.
    pub fn initramfs(&self) -> PathBuf {
        self.dir.join("initramfs.img")
    }

    /// The kernel of its machines.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Writes a file of the configuration, by its path in `config.d`.
    pub fn write_config(&self, path: &str, text: &str) -> Result<()> {
        let file = self.config().join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).doing(|| format!("creating {}", parent.display()))?;
        }
        fs::write(&file, text).doing(|| format!("writing {}", file.display()))
    }

    /// Makes a signed image of `tree` and publishes it.
    pub fn publish(&self, tree: &Path, version: &str) -> Result<()> {
        self.run(|c| c.arg(equals("--archive", tree)).arg(format!("--version={version}")))
    }

    /// Publishes the configuration.
    pub fn publish_config(&self) -> Result<()> {
        self.run(|c| c.arg(equals("--publish-config", &self.config())))
    }

    /// Builds the controller, with the configuration as it is now.
    pub fn build_controller(&self) -> Result<()> {
        self.run(|c| {
            c.arg(equals("--build-controller", &self.kernel.modules))
                .arg(equals("--config", &self.config()))
                .arg(equals("--output", &self.initramfs()))
                .arg("--force")
        })
    }

    /// Runs `gse` on this lab's key and published files, with further arguments.
    pub fn run(&self, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let mut command = process::command(&self.gse);
        command.arg(equals("--dist", &self.dist())).arg(equals("--key", &self.key()));
        arguments(&mut command);
        command.stdin(Stdio::null());
        process::output(command).map(drop)
    }

    /// The server, unless it was stopped.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Stops the server.
    pub fn stop_server(&mut self) {
        self.server = None;
    }

    /// Starts the server again, where machines look for it.
    pub fn start_server(&mut self) -> Result<()> {
        if self.server.is_none() {
            self.server = Some(Server::start(&self.gse, &self.dist(), self.port)?);
        }
        Ok(())
    }

    /// Starts the server again, with HTTPS alone: a certificate chain and its key, in PEM files.
    pub fn start_tls_server(&mut self, certificate: &Path, key: &Path) -> Result<()> {
        self.server = None;
        self.server = Some(Server::start_with(&self.gse, &self.dist(), self.port, |c| {
            c.arg(equals("--tls-cert", certificate)).arg(equals("--tls-key", key))
        })?);
        Ok(())
    }

    /// The port on loopback that machines look for a server on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A machine with the lab's kernel and controller, 1 GiB, and a network card.
    pub fn machine(&self) -> Spec {
        Spec::new(&self.kernel.image, self.initramfs()).nic(Nic::default())
    }

    /// A blank disk that has place for two slots and what goes with them.
    pub fn blank_disk(&self, image: &Path) -> Result<Disk> {
        Disk::blank(image, 2 * self.slot + GIB)
    }

    /// What its slots are formatted with.
    pub fn filesystem(&self) -> Filesystem {
        self.filesystem
    }

    /// `sources.toml` with this lab's server and key.
    fn sources(&self) -> Result<String> {
        let file = self.dir.join("gse.key.pub");
        let text = fs::read_to_string(&file).doing(|| format!("reading {}", file.display()))?;
        // minisign's format: a comment, and the key in base64 on the second line.
        let key = text.lines().nth(1).unwrap_or_default();
        Ok(format!("servers = [\"http://10.0.2.2:{}/\"]\nkeys = [\"{key}\"]\n", self.port))
    }
}

/// Two slots and a place for the kept configuration.
fn drives(slot: u64, filesystem: Filesystem) -> String {
    let partition = |label: &str, mib: u64, filesystem: &str| {
        format!(
            "[[disk.partition]]\nlabel = \"{label}\"\nsize = \"{mib}M\"\nfilesystem = \"{filesystem}\"\n"
        )
    };
    let slot = slot >> 20;
    [
        "[[disk]]\n".to_owned(),
        partition("BOOTFS", 256, "ext4"),
        partition("SYSFS", slot, filesystem.name()),
        partition("BACKUPFS", slot, filesystem.name()),
    ]
    .concat()
}

/// A size for a slot, in bytes: twice what the tree takes, and 2 GiB at least.
pub fn slot_for(tree: &Path) -> Result<u64> {
    Ok((2 * usage(tree)?).next_multiple_of(GIB / 4).max(2 * GIB))
}

/// The bytes that a tree takes, on its own filesystem.
fn usage(dir: &Path) -> Result<u64> {
    let reading = || format!("reading {}", dir.display());
    let mut sum = 0;
    for entry in fs::read_dir(dir).doing(reading)? {
        let entry = entry.doing(reading)?;
        let meta = entry.metadata().doing(|| format!("looking at {}", entry.path().display()))?;
        sum += meta.blocks() * 512;
        if meta.is_dir() {
            sum += usage(&entry.path())?;
        }
    }
    Ok(sum)
}

/// A program of this project: in the directory that the environment names, beside this one (tests lie in
/// `deps/` beside it), or where `make build` leaves it.
pub fn program(name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe().doing(|| "looking for this program".to_owned())?;
    let dirs = match std::env::var_os(BIN_DIR) {
        Some(dir) => vec![PathBuf::from(dir)],
        None => beside.ancestors().skip(1).take(2).map(Path::to_owned).collect(),
    };
    let found = dirs.iter().map(|dir| dir.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| Error::Missing {
        path: dirs.first().cloned().unwrap_or_default().join(name),
        advice: format!("`make build` makes it; {BIN_DIR} can name another directory"),
    })
}

fn equals(option: &str, path: &Path) -> std::ffi::OsString {
    let mut word = std::ffi::OsString::from(option);
    word.push("=");
    word.push(path);
    word
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let copying = || format!("copying {} to {}", from.display(), to.display());
    fs::create_dir_all(to).doing(copying)?;
    for entry in fs::read_dir(from).doing(copying)? {
        let entry = entry.doing(copying)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).doing(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_slot_has_place_for_its_tree_twice() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(slot_for(dir.path()).unwrap(), 2 * GIB);
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), vec![1; 1 << 20]).unwrap();
        assert!(usage(dir.path()).unwrap() >= 1 << 20);
    }

    #[test]
    fn the_disk_has_the_two_slots_that_were_asked_for() {
        let text = drives(3 * GIB, Filesystem::Xfs);
        assert_eq!(text.matches("size = \"3072M\"\nfilesystem = \"xfs\"").count(), 2);
        assert!(text.starts_with("[[disk]]\n[[disk.partition]]\nlabel = \"BOOTFS\""));
    }

    #[test]
    fn a_directory_is_copied_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "content").unwrap();
        copy_tree(&dir.path().join("a"), &dir.path().join("copy")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("copy/b/file")).unwrap(), "content");
    }
}
