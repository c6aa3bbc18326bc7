//! A new kernel for a machine that starts from its own disk: put on BOOTFS with the release that brings it, tried when
//! the system of that release is to be started, and confirmed by that.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use gse_protocol::{Release, release::Kernel};
use serde::{Deserialize, Serialize};

use super::{Host, Machine, new_system, online::Server};
use crate::{
    bootfs::{BootFs, State},
    cmdline::CmdLine,
    disk::{
        mount::{self, Access},
        slots::Place,
    },
    log::{Log, reason},
    mount::{Mounted, SCRATCH},
};

/// What the booted system has to know to confirm the kernel that it runs on.
const FILE: &str = "kernel.json";

/// A kernel that is to come up yet, and the filesystem that it lies on.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    serial: u64,
    device: std::path::PathBuf,
    kind: String,
}

/// Leaves a note for the booted system if the kernel that runs is on trial. `top` is where BOOTFS is mounted.
pub(super) fn note_trial(machine: &Machine, place: &Place, top: &Path) {
    let Ok(Some(boot)) = BootFs::open(top, &machine.cmdline) else { return };
    let (Some(serial), Some(info)) = (boot.on_trial(), &place.filesystem) else { return };
    let trial = Trial { serial, device: place.device.clone(), kind: info.kind.clone() };
    let file = Path::new(crate::supervisor::RUN_DIR).join(FILE);
    let noted = serde_json::to_vec(&trial).map_err(io::Error::from);
    if let Err(e) = noted.and_then(|json| fs::write(&file, json)) {
        machine.log.warn(format_args!("writing {}: {e}", file.display()));
    }
}

/// From the booted system, which is up: its kernel is the one to start from now on. `info` is where the controller
/// left its notes.
///
/// # Errors
/// BOOTFS cannot be written; the boot loader goes on counting.
pub fn confirm(info: &Path, log: &Log) -> Result<()> {
    let Ok(json) = fs::read(info.join(FILE)) else { return Ok(()) };
    let Trial { serial, device, kind } =
        serde_json::from_slice(&json).context("reading which kernel is on trial")?;
    let doing = || format!("confirming the kernel of release {serial} on {}", device.display());
    let scratch = Path::new(SCRATCH);
    let mounted = mount::mount_boot(&device, &kind, scratch, Access::ReadWrite, log)?;
    let boot = BootFs::open(mounted.path(), &CmdLine::default())?.with_context(doing)?;
    boot.confirm(serial).with_context(doing)?;
    Ok(mounted.unmount()?)
}

/// Puts the kernel of a release on BOOTFS, for a start of the system that it comes with; from the server, if that offers
/// this release. Whether it is there, and yet to be tried.
///
/// # Errors
/// Those of the server, and of writing.
pub(super) fn stage(
    machine: &Machine,
    place: &Place,
    server: Option<&Server>,
    release: &Release,
) -> Result<bool> {
    let Some(Kernel { image, initramfs, .. }) = &release.kernel else { return Ok(false) };
    let (serial, version, files) = (release.serial.0, &release.version, [image, initramfs]);
    // Where the running system has it mounted, it can be mounted again only in the same way.
    let look = match machine.host {
        Host::Running => Access::ReadWrite,
        _ => Access::ReadOnly,
    };
    let Some((mounted, boot)) = open(machine, place, look)? else { return Ok(false) };
    match boot.state(serial).context("looking for kernels on BOOTFS")? {
        State::Trial | State::Good => return Ok(false),
        State::Failed => {
            machine.log.warn(format_args!(
                "the kernel of version {version} did not come up on this machine; the one before it runs"
            ));
            return Ok(false);
        }
        State::Absent => {}
    }
    if boot.missing(serial, files).is_empty() {
        return Ok(true);
    }
    drop(mounted);
    let Some(server) = server else { return Ok(false) };
    let Some((_mounted, boot)) = open(machine, place, Access::ReadWrite)? else {
        return Ok(false);
    };
    machine.log.info(format_args!("putting the kernel of version {version} on BOOTFS"));
    boot.store(serial, files, &|file, write| {
        let mut remote = new_system::remote(machine, server, &file.path, file.size, server.retry);
        remote.whole(&mut |from| write(from)).with_context(|| format!("fetching {}", file.path))
    })?;
    Ok(true)
}

/// As [`stage`], and the boot loader tries it at the next start. Whether that was done, so that the machine is to be
/// restarted.
///
/// # Errors
/// Those of [`stage`].
pub(super) fn bring(
    machine: &Machine,
    place: &Place,
    server: Option<&Server>,
    release: &Release,
) -> Result<bool> {
    if !stage(machine, place, server, release)? {
        return Ok(false);
    }
    let Some((_mounted, boot)) = open(machine, place, Access::ReadWrite)? else {
        return Ok(false);
    };
    machine.log.info(format_args!("the kernel of version {} is tried", release.version));
    boot.try_next(release.serial.0)?;
    Ok(true)
}

/// BOOTFS, if a boot loader of this machine reads it.
fn open<'m>(
    machine: &'m Machine,
    place: &Place,
    access: Access,
) -> Result<Option<(Mounted<'m>, BootFs)>> {
    let mounted = machine.mount_place(place, access).context("BOOTFS cannot be mounted")?;
    let boot = BootFs::open(mounted.path(), &machine.cmdline).unwrap_or_else(|e| {
        machine.log.warn(reason(&e));
        None
    });
    Ok(boot.map(|boot| (mounted, boot)))
}
