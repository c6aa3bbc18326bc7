//! Fresh filesystems in files.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gse_qemu::process;
use rustix::fs::{Advice, fadvise};

/// How large they are: two of the trees that are measured with fit.
const SIZE: &str = "8G";

/// A fresh filesystem in a file, mounted; both go when this is dropped.
pub(crate) struct Fresh {
    file: PathBuf,
    target: PathBuf,
    filesystem: String,
}

impl Fresh {
    pub(crate) fn new(file: &Path, filesystem: &str, target: &Path) -> Result<Self> {
        fs::create_dir_all(target).with_context(|| format!("creating {}", target.display()))?;
        // With its blocks, or it would be the file's own filesystem that is measured.
        run("fallocate", &["--length", SIZE], file)?;
        let force = if filesystem == "ext4" { "-F" } else { "-f" };
        run(&format!("mkfs.{filesystem}"), &["-q", force], file)?;
        let fresh = Self {
            file: file.to_owned(),
            target: target.to_owned(),
            filesystem: filesystem.to_owned(),
        };
        fresh.mount()?;
        Ok(fresh)
    }

    /// Takes everything that was written out of the memory: the next to read it reads from the disk.
    pub(crate) fn cool(&self) -> Result<()> {
        run("umount", &[], &self.target)?;
        let file = File::open(&self.file)
            .and_then(|file| file.sync_all().map(|()| file))
            .with_context(|| format!("syncing {}", self.file.display()))?;
        fadvise(&file, 0, None, Advice::DontNeed)
            .with_context(|| format!("forgetting {}", self.file.display()))?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        // The loop device goes with the mount.
        let mut mount = process::command("mount");
        mount.args(["-o", "loop", "-t", &self.filesystem]).arg(&self.file).arg(&self.target);
        process::output(mount)?;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Err(e) = run("umount", &[], &self.target) {
            eprintln!("gse-bench: {e:#}");
        }
        // A loop device that lingers keeps the old file, and not the next one of that name.
        if let Err(e) = fs::remove_file(&self.file) {
            eprintln!("gse-bench: removing {}: {e}", self.file.display());
        }
    }
}

fn run(program: &str, options: &[&str], path: &Path) -> Result<()> {
    let mut command = process::command(program);
    command.args(options).arg(path);
    process::output(command).map(drop).with_context(|| format!("running {program}"))
}
