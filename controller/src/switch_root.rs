//! From the initramfs to the real system.

use std::{
    os::{fd::AsFd, unix::process::CommandExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat, openat2,
        statat, unlinkat,
    },
    process::{chdir, chroot},
};

use crate::{
    handover::Handover,
    log::Log,
    mount::{self, NEW_ROOT},
};

// linux/magic.h
const RAMFS_MAGIC: u64 = 0x8584_58f6;
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Starts the real init in this process. Returns only on failure, with the reason.
pub fn enter(handover: &Handover, log: &Log) -> String {
    match try_enter(handover, log) {
        Ok(never) => match never {},
        Err(e) => format!("the installed system could not be entered: {e:#}"),
    }
}

enum Never {}

fn try_enter(handover: &Handover, log: &Log) -> Result<Never> {
    let root = Path::new(NEW_ROOT);
    // Everything that can be checked is, before the first thing is lost.
    check_init(root, &handover.init)?;
    if !mount::is_mount_point(root) {
        bail!("nothing is mounted at {NEW_ROOT}");
    }
    log.debug(format_args!("starting {}", handover.init));
    let old = openat(CWD, "/", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("opening the initramfs")?;
    let mut moved = Vec::new();
    if let Err(e) = move_into(root, &mut moved) {
        // Rescue needs them where they were.
        for dir in moved {
            mount::move_to(&root.join(dir), &Path::new("/").join(dir))?;
        }
        return Err(e);
    }
    // The initramfs is memory that nobody could reach any more. Two guards: it is a memory filesystem,
    // and what is deleted lies on it.
    if let (Ok(fs), Ok(dir)) = (fstatfs(&old), fstat(&old))
        && matches!(fs.f_type as u64, RAMFS_MAGIC | TMPFS_MAGIC)
    {
        empty(&old, dir.st_dev);
    }
    drop(old);
    let error = Command::new(&handover.init).args(&handover.args).exec();
    Err(error).with_context(|| format!("starting {}", handover.init))
}

fn move_into(root: &Path, moved: &mut Vec<&'static str>) -> Result<()> {
    // Asked before /proc moves, which is who knows.
    let points = mount::mount_points();
    for dir in ["dev", "proc", "sys", "run"] {
        let from = Path::new("/").join(dir);
        if points.contains(&from) {
            mount::move_to(&from, &root.join(dir))?;
            moved.push(dir);
        }
    }
    chdir(root).context("entering the new root")?;
    mount::move_to(Path::new("."), Path::new("/"))?;
    chroot(".").context("changing the root")?;
    chdir("/").context("entering the new root")
}

/// Whether `init` is a program inside `root`, its links followed as if `root` were `/`.
pub fn check_init(root: &Path, init: &str) -> Result<()> {
    let dir = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {}", root.display()))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file =
        openat2(&dir, init, flags, Mode::empty(), ResolveFlags::IN_ROOT).with_context(|| {
            format!("the image has no {init}; name its init in controller/boot.toml, [init] path")
        })?;
    let stat = fstat(&file).with_context(|| format!("looking at {init}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        bail!("the image's {init} is no program");
    }
    Ok(())
}

/// Deletes everything in `dir` that lies on `device`. What cannot be deleted stays.
fn empty(dir: &impl AsFd, device: u64) {
    let Ok(entries) = Dir::read_from(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(inner) = openat(dir, name, flags, Mode::empty()) {
                empty(&inner, device);
            }
            let _ = unlinkat(dir, name, AtFlags::REMOVEDIR);
        } else {
            let _ = unlinkat(dir, name, AtFlags::empty());
        }
    }
}
