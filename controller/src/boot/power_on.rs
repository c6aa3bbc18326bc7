//! What a machine without a network makes of its disks when the power comes back: phases 4 and 6 for disks
//! that are given, such as the image of a disk after a power cut.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use gse_protocol::config::Bundle;

use super::{Disks, Machine, drives, start};
use crate::{
    cmdline::CmdLine,
    decide::{self, NothingToBoot},
    disk::{
        mount::Access,
        probe::BlockDevice,
        slots::{Found, Slot},
        tools::Tools,
    },
    drivers::{Drivers, Hotplug},
    facts::{Content, Facts, SlotId},
    log::{Log, reason},
    switch_root::check_init,
};

/// A directory that is never there.
const NOWHERE: &str = "/run/gse/nowhere";

/// What a machine makes of its disks.
#[derive(Debug)]
pub struct Decision {
    /// The slots and places, as they were found.
    pub found: Found,
    /// What the slots hold, once every interrupted change was brought to its end.
    pub facts: Facts,
    /// The slot that is started, or why none can be.
    pub chosen: Result<Slot, NothingToBoot>,
}

/// Decides as a boot without a network does, up to the slot whose system would be started: labels are changed,
/// filesystems are mended, and what the boot would pass over is passed over. The kernel that runs has the
/// filesystems already.
///
/// # Errors
/// What would end in rescue before a slot is chosen.
pub fn decide(
    config: &Bundle,
    devices: Vec<BlockDevice>,
    tools: Tools,
    log: Arc<Log>,
) -> Result<Decision> {
    let cmdline = CmdLine::default();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    // No module is loaded, and no device is looked for: the disks are given.
    let nowhere = Path::new(NOWHERE);
    let drivers = Arc::new(Drivers::open(nowhere, &release, &cmdline, &log));
    let hotplug = Hotplug::start(drivers, nowhere.to_owned(), Arc::clone(&log))?;
    let machine = Machine { log, cmdline, hotplug, tools };
    let disks = drives::found(config, devices)?;
    if let Some(place) = &disks.found.boot {
        drop(machine.mount_place(place, Access::ReadOnly));
    }
    let facts = machine.settle(&disks, config)?;
    start::check_userdata(&machine, &disks);
    let mut left = facts.clone();
    let chosen = loop {
        match decide::choose(&left) {
            Err(nothing) => break Err(nothing),
            Ok(chosen) => match try_start(&machine, config, &disks, chosen) {
                Ok(slot) => break Ok(slot.clone()),
                Err(e) => {
                    machine.log.warn(reason(&e));
                    start::clean_up(&machine.log);
                    if let Some(slot) = left.slots.get_mut(chosen.0) {
                        slot.content = Content::Broken(reason(&e));
                    }
                }
            },
        }
    };
    Ok(Decision { found: disks.found, facts, chosen })
}

/// What must hold for a slot to be started.
fn try_start<'d>(
    machine: &Machine,
    config: &Bundle,
    disks: &'d Disks,
    chosen: SlotId,
) -> Result<&'d Slot> {
    let slot = super::slots::disk_slot(disks, chosen)?;
    if let Some(filesystem) = slot.filesystem() {
        start::check(machine, &slot.device, filesystem)?;
    }
    start::with_system(machine, slot, Access::ReadOnly, |root, _| {
        check_init(root, &config.boot.init.path)
    })?;
    Ok(slot)
}
