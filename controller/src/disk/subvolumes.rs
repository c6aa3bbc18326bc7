//! The subvolumes of USERDATAFS: made, limited, copied and deleted as `drives.toml` says.

use std::{fs::File, io, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use btrfsutil::subvolume::{DeleteFlags, SnapshotFlags, Subvolume};
use gse_protocol::config::drives;
use nix::errno::Errno;

use crate::{
    clock::Date,
    files,
    log::{Log, reason},
    sys::btrfs,
};

/// Makes a subvolume where it is missing.
///
/// # Errors
/// A name that is taken by something else, and those of the filesystem.
pub fn ensure(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Subvolume::create(path, None).map(drop).map_err(|e| anyhow!("{e}"))
        }
        Err(e) => Err(e.into()),
        Ok(_) if is_subvolume(path) => Ok(()),
        Ok(_) => bail!("there is something else of that name"),
    }
}

fn is_subvolume(path: &Path) -> bool {
    Subvolume::is_subvolume(path).is_ok()
}

/// Brings the filesystem whose top is at `top`, mounted writable, to have the subvolumes `present`, and none that is called
/// as one of those `gone`. `today` is the day that a snapshot is of. What fails is reported, and the rest is done.
pub fn bring(top: &Path, present: &[drives::Subvolume], gone: &[String], today: Date, log: &Log) {
    let tell = |name: &str, done: Result<()>| {
        if let Err(e) = done {
            log.warn(format_args!("subvolume {name} of USERDATAFS: {}", reason(&e)));
        }
    };
    for name in gone {
        tell(name, delete(&top.join(name)).context("deleting it"));
    }
    if present.iter().any(|subvolume| subvolume.quota.is_some()) {
        tell("quotas", File::open(top).and_then(btrfs::enable_quotas).context("enabling quotas"));
    }
    for subvolume in present {
        let name = &subvolume.name;
        let path = top.join(name);
        tell(
            name,
            ensure(&path)
                .and_then(|()| set_quota(&path, subvolume.quota).context("setting its quota"))
                .and_then(|()| {
                    snapshot(top, name, subvolume.snapshots, today).context("its snapshots")
                }),
        );
    }
}

/// Deletes a subvolume with those in it, where it is there. What is no subvolume stays.
fn delete(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        _ if !is_subvolume(path) => bail!("there is something else of that name, which stays"),
        _ => Subvolume::get(path)
            .and_then(|subvolume| subvolume.delete(DeleteFlags::RECURSIVE))
            .map_err(|e| anyhow!("{e}")),
    }
}

fn set_quota(path: &Path, quota: Option<drives::Size>) -> Result<()> {
    match btrfs::limit(File::open(path)?, quota.map(|size| size.0)) {
        // Nothing is limited where nothing is counted.
        Err(e) if quota.is_none() && e.raw_os_error() == Some(Errno::ENOTCONN as i32) => Ok(()),
        done => Ok(done?),
    }
}

/// A read-only snapshot for each day, `NAME.2026-11-23`, of which the last ones are kept.
fn snapshot(top: &Path, name: &str, keep: u32, today: Date) -> Result<()> {
    let mut found = files::names(top)?;
    found.retain(|file| is_snapshot(file, name));
    found.sort_unstable();
    let own = format!("{name}.{today}");
    if keep > 0 && !found.contains(&own) {
        Subvolume::get(top.join(name).as_path())
            .and_then(|subvolume| {
                subvolume.snapshot(top.join(&own).as_path(), SnapshotFlags::READ_ONLY, None)
            })
            .map_err(|e| anyhow!("{e}"))?;
        found.push(own);
    }
    // What was taken while the configuration asked for some stays when it asks for none any more: a person
    // may want it back.
    let surplus = if keep == 0 { 0 } else { found.len().saturating_sub(keep as usize) };
    for old in found.iter().take(surplus) {
        delete(&top.join(old))?;
    }
    Ok(())
}

/// Whether a file has the name of a snapshot of `name`.
fn is_snapshot(file: &str, name: &str) -> bool {
    let day = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
    let shape: String = day.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}
