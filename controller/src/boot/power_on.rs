//! What a machine without a network makes of its disks when the power comes back: phases 4 and 6 for disks
//! that are given, such as the image of a disk after a power cut.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use gse_protocol::config::Bundle;

use super::{Host, Machine, cycle::Course, drives, slots::Slots};
use crate::{
    cmdline::CmdLine,
    decide::NothingToBoot,
    disk::{
        mount::Access,
        probe::{BlockDevice, Loops},
        slots::{Found, Slot},
        tools::Tools,
    },
    drivers::{Drivers, Hotplug},
    facts::Facts,
    log::Log,
};

/// A directory that is never there.
const NOWHERE: &str = "/run/gse/nowhere";

/// What a machine makes of its disks.
#[derive(Debug)]
pub struct Decision {
    /// The slots and places, as they are afterwards.
    pub found: Found,
    /// What the slots hold, once every interrupted change was brought to its end.
    pub facts: Facts,
    /// The slot that is started, or why none can be.
    pub chosen: Result<Slot, NothingToBoot>,
}

/// Decides as a boot without a network does, up to the slot whose system would be started: labels are changed,
/// filesystems are mended, those of the users' data last, and what the boot would pass over is passed over. The kernel
/// that runs has the filesystems already.
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
    let (host, loops) = (Host::Controller, Loops::Ignore);
    let machine = Machine { host, log, cmdline, hotplug, tools, loops };
    let disks = drives::found(config, devices)?;
    if let Some(place) = &disks.found.boot {
        drop(machine.mount_place(place, Access::ReadOnly));
    }
    let (slots, facts) = Slots::look(&machine, disks, config)?;
    let mut course = Course::new(&machine, config, None, slots, facts);
    let chosen = course.choose();
    let (slots, facts) = course.into_parts();
    // Once there is a system to start, even if that has to be installed first.
    machine.mend_userdata(slots.found());
    let chosen = match chosen {
        Ok((id, _)) => Ok(slots.disk_slot(id)?.clone()),
        Err(nothing) => Err(nothing),
    };
    Ok(Decision { found: slots.found().clone(), facts, chosen })
}
