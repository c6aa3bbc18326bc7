//! The boot, from the kernel's start of this program to the real system's: phases 1 to 9 of the design.

pub mod beside;
mod cycle;
mod drives;
mod explain;
pub mod kernel;
mod memory;
mod new_system;
mod online;
pub mod power_on;
mod ready;
mod slots;
mod start;

use std::{ffi::OsStr, path::Path, sync::Arc, thread};

use anyhow::{Context as _, Result};
use gse_protocol::{Serial, config::Bundle};

pub use self::ready::{Failed, Ready};
use self::{cycle::Course, slots::Slots};
use crate::{
    clock,
    cmdline::CmdLine,
    config,
    decide::update::patience,
    disk::{
        mount::Access,
        probe::{BlockDevice, Loops},
        slots::Found,
        tools::Tools,
    },
    dracut,
    drivers::{Drivers, Hotplug},
    last_servers::LastServers,
    log::{Log, reason},
    rescue,
};

/// Where an initramfs has its configuration.
pub const CONFIG_D: &str = "/config.d";
/// Seconds since 1970 at which this initramfs was made.
const STAMP: &str = "/etc/gse/stamp";
const MODULES: &str = "/";
const SYS: &str = "/sys";
const DEV: &str = "/dev";
const TOOLS: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

/// Whose initramfs this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The controller's own: nobody else looks after devices and the network.
    Controller,
    /// dracut's: udevd loads drivers, and the network may be up already.
    Dracut,
    /// None: the installed system runs.
    Running,
}

/// What every phase needs.
struct Machine {
    host: Host,
    log: Arc<Log>,
    cmdline: CmdLine,
    hotplug: Hotplug,
    tools: Tools,
    /// Whether disks may be files, as in tests.
    loops: Loops,
}

/// What the machine goes by until a server says otherwise.
struct Known {
    config: Bundle,
    /// Configurations up to this serial are old.
    floor: Serial,
    /// The servers that worked last.
    last: Option<LastServers>,
}

/// What was found on the disks. Nothing of it is mounted: see [`Slots`].
struct Disks {
    devices: Vec<BlockDevice>,
    found: Found,
}

/// Runs phases 1 to 8, and `start` on the system that they made ready. Where that fails, the decisions go on
/// without that system, as they do without those that `failed` before.
///
/// # Errors
/// Why no system could be started.
pub fn run(
    host: Host,
    log: Arc<Log>,
    cmdline: CmdLine,
    failed: &[Failed],
    start: &dyn Fn(&Ready, &Log) -> Result<()>,
) -> Result<()> {
    // A retry from rescue begins where an earlier try may have stopped half-way.
    start::clean_up(&log);
    let built = clock::stamp(Path::new(STAMP))?;
    raise_clock(built, &log);
    let machine = Machine::new(host, log, cmdline)?;
    let log = machine.log.as_ref();

    let embedded = config::embedded(Path::new(CONFIG_D), built)?;
    load_early(machine.hotplug.drivers(), &embedded, &machine.log);
    store_rescue(&embedded)?;
    let (known, disks) = log.phase("export config.d", || machine.export(embedded))?;
    store_rescue(&known.config)?;

    let online = log.phase("network", || machine.network(&known.config, &disks));
    // What the slots hold is not known before they are mounted.
    let patience = |config: &Bundle, system| patience(config.boot.update.when_busy, system);
    let look = || online::look(&machine, &known, patience(&known.config, disks.has_labels()));
    let found = online.then(|| log.phase("fetch config", look));
    let mut found = found.unwrap_or_default();
    let config = match &found.fetched {
        Some(fetched) => {
            log.info(format_args!("configuration {} fetched", fetched.bundle.serial));
            store_rescue(&fetched.bundle)?;
            fetched.bundle.clone()
        }
        None => known.config,
    };
    if let Err(e) = beside::leave(&machine, &config, found.server.as_ref()) {
        log.warn(format_args!("the system will not know of updates: {}", reason(&e)));
    }
    let server = found.server.as_ref();
    let memory = memory::Choice::new(&machine, &config, &disks, server)?;
    if let Some(ready) = memory.make(&machine, &config, server)? {
        return start(&ready, log);
    }
    let disks = log.phase("drives", || machine.drives(&config, disks))?;
    machine.keep(&disks, &found);
    machine.announce_logs(&config, &disks);
    machine.order_boot_entries(&config);

    let looked = log.phase("version check", || Slots::look(&machine, disks, &config));
    let (slots, facts) = looked?;
    if let Some(server) = &mut found.server {
        server.retry.busy = patience(&config, facts.has_system());
    }
    let server = found.server.as_ref();
    let mut course = Course::new(&machine, &config, server, slots, facts);
    course.recall(failed);
    course.run(start)
}

/// Begins to load the modules of the configured filesystems. Those of btrfs take as long as
/// everything before its first mount. Who needs a module waits for it if it is still being loaded.
fn load_early(drivers: &Arc<Drivers>, config: &Bundle, log: &Arc<Log>) {
    let partitions = config.drives.disk.iter().flat_map(|disk| &disk.partition);
    let names: Vec<String> = partitions.map(|p| p.filesystem.to_string()).collect();
    let (drivers, log) = (Arc::clone(drivers), Arc::clone(log));
    let load = move || drivers.load_at_once(&names, &log);
    // Without the thread they are loaded when they are needed.
    let _ = thread::Builder::new().name("filesystems".into()).spawn(load);
}

/// A clock that cannot be set is no reason not to boot.
fn raise_clock(floor: u64, log: &Log) {
    if let Err(e) = clock::raise_to(floor) {
        log.warn(e);
    }
}

fn store_rescue(config: &Bundle) -> Result<()> {
    rescue::store_policy(&config.boot.rescue).context("leaving the rescue policy for a failure")
}

impl Disks {
    /// Whether a slot has a label, so that there may be a system.
    fn has_labels(&self) -> bool {
        self.found.slots.iter().any(|slot| slot.label().is_some())
    }
}

impl Machine {
    fn new(host: Host, log: Arc<Log>, cmdline: CmdLine) -> Result<Self> {
        let hotplug = match host {
            Host::Controller => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                let drivers = Drivers::open(Path::new(MODULES), &release, &cmdline, &log);
                Hotplug::start(Arc::new(drivers), SYS.into(), Arc::clone(&log))?
            }
            Host::Dracut => Hotplug::beside_udev(dracut::wait_for_udev)?,
            Host::Running => Hotplug::beside_udev(|| ())?,
        };
        let tools = Tools::from_path(OsStr::new(TOOLS));
        Ok(Self { host, log, cmdline, hotplug, tools, loops: Loops::Ignore })
    }

    /// Phase 1. Waits for the disks that the configuration names, because BOOTFS may keep a newer one.
    fn export(&self, embedded: Bundle) -> Result<(Known, Disks)> {
        let disks = self.wait_for_disks(&embedded)?;
        let boot = disks.found.boot.as_ref().filter(|boot| boot.filesystem.is_some());
        let (mut kept, mut last) = (None, None);
        let mounted = boot.and_then(|boot| Some((boot, self.mount_place(boot, Access::ReadOnly)?)));
        if let Some((boot, mounted)) = mounted {
            kernel::note_trial(self, boot, mounted.path());
            kept = config::kept(mounted.path(), &embedded, &self.log);
            last = LastServers::load(mounted.path());
        }
        // A replayed older configuration is refused even while the embedded one counts; the same one is
        // then taken again.
        let floor = match &kept {
            Some(kept) if kept.created >= embedded.created => kept.serial,
            Some(kept) => Serial(kept.serial.0.saturating_sub(1)),
            None => embedded.serial,
        };
        let config = config::newer(embedded, kept);
        raise_clock(config.created, &self.log);
        Ok((Known { config, floor, last }, disks))
    }
}
