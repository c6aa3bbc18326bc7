//! Kernels on BOOTFS: a release can bring a kernel and its initramfs, for machines that start from their own disk.
//!
//! Both are written under names of their own, beside what is there, and read back. Only then the boot loader is
//! told, and only to *try*: systemd-boot counts how often an entry was started, GRUB starts one once. What comes
//! up is confirmed by the booted system; what does not is passed over by the boot loader itself, which is the
//! only one that still runs then.

mod grub;
mod systemd_boot;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::{Sha256, release::WholeFile};
use rustix::fs::statvfs;

use crate::{cmdline::CmdLine, files};

/// The word by which the controller knows which of the kernels on BOOTFS was started.
pub const RUNNING: &str = "gse.kernel";
/// The folder of GSE on BOOTFS.
const FOLDER: &str = "gse";
/// In it, what is being written.
const INCOMING: &str = "incoming";
/// How often a kernel may be started until it comes up, where the boot loader can count.
const TRIES: u32 = 3;
/// Bytes that stay free.
const SPARE: u64 = 1 << 20;

/// The boot loader that BOOTFS is laid out for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    SystemdBoot,
    /// With the directory of `grub.cfg`.
    Grub(PathBuf),
}

/// What became of the kernel of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Absent,
    /// It is to come up yet.
    Trial,
    /// It came up.
    Good,
    /// It did not come up as often as it was started.
    Failed,
}

/// BOOTFS, mounted, of a machine whose boot loader reads it.
#[derive(Debug)]
pub struct BootFs {
    top: PathBuf,
    layout: Layout,
    /// The release whose kernel runs, if one from here does.
    running: Option<u64>,
    /// The kernel command line without what boot loaders add to it.
    options: String,
}

impl BootFs {
    /// Looks at what is mounted at `top`; none if no boot loader is laid out there.
    ///
    /// # Errors
    /// A `grub.cfg` that does not read what would be written.
    pub fn open(top: &Path, cmdline: &CmdLine) -> Result<Option<Self>> {
        let grub = || ["grub", "grub2", "boot/grub"].iter().map(|dir| top.join(dir));
        let layout = if top.join("loader").is_dir() {
            Layout::SystemdBoot
        } else if let Some(dir) = grub().find(|dir| dir.join("grub.cfg").is_file()) {
            grub::check(&dir)?;
            Layout::Grub(dir)
        } else {
            return Ok(None);
        };
        let running = cmdline.value(RUNNING).and_then(|serial| serial.parse().ok());
        Ok(Some(Self { top: top.to_owned(), layout, running, options: options(cmdline) }))
    }

    /// What became of the kernel of release `serial`.
    ///
    /// # Errors
    /// Those of reading.
    pub fn state(&self, serial: u64) -> io::Result<State> {
        match &self.layout {
            Layout::SystemdBoot => systemd_boot::state(&self.top, serial),
            Layout::Grub(dir) => grub::state(dir, serial, self.running),
        }
    }

    /// Whether the kernel that runs is to be confirmed once the system is up.
    pub fn on_trial(&self) -> Option<u64> {
        self.running.filter(|serial| matches!(self.state(*serial), Ok(State::Trial)))
    }

    /// The files of a release that are not here, and their names.
    pub fn missing<'f>(
        &self,
        serial: u64,
        [kernel, initramfs]: [&'f WholeFile; 2],
    ) -> Vec<(&'f WholeFile, String)> {
        let folder = self.top.join(FOLDER);
        let files = [(kernel, kernel_name(serial)), (initramfs, initramfs_name(serial))];
        let is_missing = |(file, name): &(&WholeFile, String)| {
            !is_whole(&folder.join(name), file).unwrap_or(false)
        };
        files.into_iter().filter(is_missing).collect()
    }

    /// Puts the kernel of a release here, and tells no boot loader. What is here of it stays; `fetch` has a published file
    /// written, from another place if it was not right, and says whether it is. Others go only if their room is needed.
    ///
    /// # Errors
    /// Too little room, a file that is not what was signed, and those of writing.
    pub fn store(&self, serial: u64, files: [&WholeFile; 2], fetch: &Fetch<'_>) -> Result<()> {
        let folder = self.top.join(FOLDER);
        fs::create_dir_all(&folder).context("making the folder for kernels on BOOTFS")?;
        let new = folder.join(INCOMING);
        // Of a write that power was cut in.
        let _ = fs::remove_file(&new);
        let missing = self.missing(serial, files);
        let needed = missing.iter().fold(SPARE, |sum, (file, _)| sum.saturating_add(file.size));
        let space = statvfs(&folder).context("asking for the room on BOOTFS")?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < needed {
            let others = self.others(serial)?;
            let room = others.iter().fold(free, |sum, other| sum.saturating_add(other.size));
            if room < needed {
                bail!(
                    "BOOTFS has room for {room} bytes, and the kernel of this release needs {needed}: make it larger"
                );
            }
            self.remove(&others)?;
        }
        for (file, name) in missing {
            if let Err(e) = place(&folder, &new, &name, file, fetch) {
                // What it left of a file is of no use.
                let _ = fs::remove_file(&new);
                return Err(e.context(format!("writing {name} to BOOTFS")));
            }
        }
        Ok(())
    }

    /// Has the kernel of a release tried at the next start; its files are here. The kernel that runs stays, and what a
    /// boot loader would start; others go.
    ///
    /// # Errors
    /// Those of writing. The boot loader does then what it did before.
    pub fn try_next(&self, serial: u64) -> Result<()> {
        self.remove(&self.others(serial)?)?;
        let told = match &self.layout {
            Layout::SystemdBoot => systemd_boot::try_once(&self.top, serial, &self.options),
            Layout::Grub(dir) => grub::try_once(dir, serial, self.running, &self.options),
        };
        told.context("telling the boot loader of the new kernel")
    }

    /// Confirms a kernel: it is what is started from now on.
    ///
    /// # Errors
    /// Those of writing.
    pub fn confirm(&self, serial: u64) -> io::Result<()> {
        match &self.layout {
            Layout::SystemdBoot => systemd_boot::confirm(&self.top, serial),
            Layout::Grub(dir) => grub::confirm(dir, serial),
        }
    }

    /// What was written here and neither runs, nor is of the release `new`, nor is what GRUB starts.
    fn others(&self, new: u64) -> Result<Vec<Other>> {
        let mut others = Vec::new();
        let listing = fs::read_dir(self.top.join(FOLDER)).context("listing BOOTFS")?;
        for entry in listing.flatten() {
            let Some(serial) = serial_of(&entry.file_name().to_string_lossy()) else { continue };
            if serial == new || Some(serial) == self.running {
                continue;
            }
            if let Layout::Grub(dir) = &self.layout
                && matches!(grub::state(dir, serial, self.running)?, State::Good | State::Trial)
            {
                continue;
            }
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            others.push(Other { serial, path: entry.path(), size });
        }
        Ok(others)
    }

    fn remove(&self, others: &[Other]) -> Result<()> {
        for Other { serial, path, .. } in others {
            // First what leads there.
            if self.layout == Layout::SystemdBoot {
                systemd_boot::remove(&self.top, *serial)?;
            }
            fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }
}

/// A file of another release.
struct Other {
    serial: u64,
    path: PathBuf,
    /// In bytes.
    size: u64,
}

/// Writes a file out of a reader, and says whether that is what it should be.
type Write<'w> = dyn FnMut(&mut dyn io::Read) -> io::Result<bool> + 'w;
/// Has a published file written until it is right; whether it is.
type Fetch<'f> = dyn Fn(&WholeFile, &mut Write<'_>) -> Result<bool> + 'f;

/// Writes a file to `new`, reads it back from there, and gives it its name.
fn place(folder: &Path, new: &Path, name: &str, file: &WholeFile, fetch: &Fetch<'_>) -> Result<()> {
    let path = folder.join(name);
    let mut write = |from: &mut dyn io::Read| {
        let mut written = fs::File::create(new)?;
        io::copy(from, &mut written)?;
        written.sync_all()?;
        drop(written);
        is_whole(new, file)
    };
    if !fetch(file, &mut write)? {
        bail!("it is not the file that the release names: publish the release again");
    }
    fs::rename(new, &path)?;
    Ok(files::sync_parent(&path)?)
}

/// Whether this is what was signed.
fn is_whole(path: &Path, file: &WholeFile) -> io::Result<bool> {
    Ok(Sha256::of_reader(fs::File::open(path)?)? == file.sha256)
}

fn kernel_name(serial: u64) -> String {
    format!("vmlinuz-{serial}")
}

fn initramfs_name(serial: u64) -> String {
    format!("initramfs-{serial}.img")
}

/// The release that a file in the folder is of, if it is one of those that are written here.
fn serial_of(name: &str) -> Option<u64> {
    let serial = name
        .strip_prefix("vmlinuz-")
        .or_else(|| name.strip_prefix("initramfs-")?.strip_suffix(".img"))?;
    serial.parse().ok()
}

/// What the kernel that runs was started with, for the next one. A kernel that panics must restart the machine, or
/// the boot loader would never get to try another.
fn options(cmdline: &CmdLine) -> String {
    let added = ["BOOT_IMAGE", "initrd", RUNNING];
    let words = cmdline.words().filter(|(key, _)| !added.contains(key));
    let mut out: Vec<String> = words
        .map(|(key, value)| match value {
            Some(value) if value.contains(char::is_whitespace) => format!("{key}=\"{value}\""),
            Some(value) => format!("{key}={value}"),
            None => key.to_owned(),
        })
        .collect();
    if cmdline.value("panic").is_none() {
        out.push("panic=30".to_owned());
    }
    out.join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
