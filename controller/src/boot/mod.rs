//! The boot, from the kernel's start of this program to the real system's: phases 1 to 9 of the design.

mod drives;
mod new_system;
mod online;
mod ready;
mod slots;
mod start;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use gse_protocol::{
    Release, Serial,
    config::{Bundle, boot::Answer},
};

pub use self::ready::Ready;
use self::{online::Server, slots::Slots};
use crate::{
    clock,
    cmdline::CmdLine,
    config,
    console::{self, Input},
    decide::{self, Keep, Update},
    disk::{mount::Access, probe::BlockDevice, slots::Found, tools::Tools},
    dracut,
    drivers::{Drivers, Hotplug},
    facts::{Content, Facts, Offer, Role},
    log::{Log, reason},
    rescue,
};

const CONFIG_D: &str = "/config.d";
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
}

/// What every phase needs.
struct Machine {
    host: Host,
    log: Arc<Log>,
    cmdline: CmdLine,
    hotplug: Hotplug,
    tools: Tools,
}

/// What was found on the disks. Nothing of it is mounted: see [`Slots`].
struct Disks {
    devices: Vec<BlockDevice>,
    found: Found,
}

/// Partitions whose system could not be started just now, and why.
pub type Failed = BTreeMap<PathBuf, String>;

/// Runs phases 1 to 8, and `start` with the system that they chose. Where that fails, the next one is tried.
///
/// # Errors
/// Why no system could be started.
pub fn run<T>(
    host: Host,
    log: Arc<Log>,
    cmdline: CmdLine,
    failed: &Failed,
    start: &dyn Fn(&Ready, &Log) -> Result<T>,
) -> Result<T> {
    // A retry from rescue begins where an earlier try may have stopped half-way.
    start::clean_up(&log);
    let built = clock::stamp(Path::new(STAMP))?;
    raise_clock(built, &log);
    let machine = Machine::new(host, log, cmdline)?;
    let log = machine.log.as_ref();

    let embedded = config::embedded(Path::new(CONFIG_D), built)?;
    load_early(machine.hotplug.drivers(), &embedded, &machine.log);
    store_rescue(&embedded)?;
    let (config, floor, disks) = log.phase("export config.d", || machine.export(embedded))?;
    store_rescue(&config)?;

    let online = log.phase("network", || machine.network(&config, &disks));
    let server =
        online.then(|| log.phase("fetch config", || online::choose(&machine, &config))).flatten();
    let fetched = server.as_ref().and_then(|s| online::newer_config(&machine, s, &config, floor));
    let config = match &fetched {
        Some(fetched) => {
            log.info(format_args!("configuration {} fetched", fetched.bundle.serial));
            store_rescue(&fetched.bundle)?;
            fetched.bundle.clone()
        }
        None => config,
    };
    let disks = log.phase("drives", || machine.drives(&config, disks))?;
    if let Some(fetched) = &fetched {
        machine.keep_config(&disks, fetched);
    }

    let (slots, facts) = log.phase("version check", || machine.settle(disks, &config))?;
    let (slots, facts, failure) =
        machine.bring_up_to_date(&config, server.as_ref(), slots, facts)?;
    machine.start_one(&config, slots, facts, failure, failed, start)
}

fn offer(release: &Release) -> Offer {
    Offer {
        serial: release.serial,
        version: release.version.clone(),
        allow_downgrade: release.allow_downgrade,
    }
}

/// Begins to load the modules of the configured filesystems. Those of btrfs take as long as
/// everything before its first mount. Who needs a module waits for it if it is still being loaded.
fn load_early(drivers: &Arc<Drivers>, config: &Bundle, log: &Arc<Log>) {
    let partitions = config.drives.disk.iter().flat_map(|disk| &disk.partition);
    let names: BTreeSet<String> = partitions.map(|p| p.filesystem.to_string()).collect();
    let (drivers, log) = (Arc::clone(drivers), Arc::clone(log));
    let load = move || {
        for name in names {
            drivers.load_named(&name, &log);
        }
    };
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

impl Machine {
    fn new(host: Host, log: Arc<Log>, cmdline: CmdLine) -> Result<Self> {
        let hotplug = match host {
            Host::Controller => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                let drivers = Drivers::open(Path::new(MODULES), &release, &cmdline, &log);
                Hotplug::start(Arc::new(drivers), SYS.into(), Arc::clone(&log))
            }
            Host::Dracut => Hotplug::beside_udev(dracut::wait_for_udev),
        };
        let tools = Tools::from_path(OsStr::new(TOOLS));
        Ok(Self { host, log, cmdline, hotplug: hotplug?, tools })
    }

    /// Phase 1. Waits for the disks that the configuration names, because BOOTFS may keep a newer one.
    fn export(&self, embedded: Bundle) -> Result<(Bundle, Serial, Disks)> {
        let disks = self.wait_for_disks(&embedded)?;
        let kept =
            disks.found.boot.as_ref().filter(|boot| boot.filesystem.is_some()).and_then(|boot| {
                let mounted = self.mount_place(boot, Access::ReadOnly)?;
                config::kept(mounted.path(), &embedded.sources.keys, &self.log)
            });
        // A replayed older configuration is refused even while the embedded one counts; the same one is
        // then taken again.
        let floor = match &kept {
            Some(kept) if kept.created >= embedded.created => kept.serial,
            Some(kept) => Serial(kept.serial.0.saturating_sub(1)),
            None => embedded.serial,
        };
        let config = config::newer(embedded, kept);
        raise_clock(config.created, &self.log);
        Ok((config, floor, disks))
    }

    /// Phase 4: what the installed slots hold, with every interrupted change brought to its end.
    fn settle(&self, disks: Disks, config: &Bundle) -> Result<(Slots<'_>, Facts)> {
        let (mut slots, mut facts) = Slots::look(self, disks, config);
        for step in decide::settle(&facts) {
            slots.run(&mut facts, step)?;
        }
        Ok((slots, facts))
    }

    /// Phases 4 and 5: installs what the server offers, if the policy and the person want it. What comes
    /// back is what there is to boot, and why an installation failed.
    fn bring_up_to_date<'m>(
        &'m self,
        config: &Bundle,
        server: Option<&Server>,
        slots: Slots<'m>,
        mut facts: Facts,
    ) -> Result<(Slots<'m>, Facts, Option<anyhow::Error>)> {
        facts.offer = server.map(|server| offer(&server.chosen.release));
        let (Update::Install(slot), Some(server)) = (self.update(&mut facts, config), server)
        else {
            return Ok((slots, facts, None));
        };
        let disks = slots.close();
        let installed = self.log.phase("new system", || {
            new_system::install(self, config, server, &disks, &facts, slot)
        });
        let failure = installed.err();
        if let Some(e) = &failure {
            let version = &server.chosen.release.version;
            self.log.warn(format_args!("version {version} was not installed: {}", reason(e)));
        }
        let disks = self.probe(config)?;
        let (slots, facts) = self.settle(disks, config)?;
        Ok((slots, facts, failure))
    }

    /// Phases 6 to 8 and `start`, for the best slot there is; if one cannot be started, for the next.
    fn start_one<T>(
        &self,
        config: &Bundle,
        mut slots: Slots<'_>,
        mut facts: Facts,
        mut failure: Option<anyhow::Error>,
        failed: &Failed,
        start: &dyn Fn(&Ready, &Log) -> Result<T>,
    ) -> Result<T> {
        for slot in &mut facts.slots {
            if let Some(why) = failed.get(Path::new(&slot.device)) {
                slot.content = Content::Broken(why.clone());
            }
        }
        loop {
            let chosen = match decide::choose(&facts) {
                Ok(chosen) => chosen,
                // What failed is the reason, not the empty slot that it left.
                Err(nothing) => return Err(failure.unwrap_or_else(|| nothing.into())),
            };
            let ready = start::make_ready(self, config, &mut slots, &facts, chosen);
            let e = match ready.and_then(|ready| start(&ready, &self.log)) {
                Ok(started) => return Ok(started),
                Err(e) => e,
            };
            self.log.warn(reason(&e));
            start::leave_root(&self.log);
            if let Some(slot) = facts.slots.get_mut(chosen.0) {
                slot.content = Content::Broken(reason(&e));
            }
            failure = Some(e);
        }
    }

    /// Phase 4: whether a release is installed. Asks the person where the policy says so.
    fn update(&self, facts: &mut Facts, config: &Bundle) -> Update {
        let policy = &config.boot.update;
        let mut update = decide::update(facts, policy.policy);
        if update == Update::Ask {
            facts.answer = Some(self.ask(facts, policy.ask_timeout, policy.ask_default));
            update = decide::update(facts, policy.policy);
        }
        if let Update::Keep(reason) = &update {
            self.log.info(explain(reason, facts));
        }
        update
    }

    fn ask(&self, facts: &Facts, timeout: u32, default: Answer) -> Answer {
        let version = facts.offer.as_ref().map(|o| o.version.as_str()).unwrap_or_default();
        let usual = if default == Answer::Install { "Y/n" } else { "y/N" };
        let prompt = format!("gse: install version {version} now? [{usual}] ({timeout} s) ");
        console::drop_typed();
        match console::ask(&prompt, Duration::from_secs(u64::from(timeout))) {
            Input::Line(line) => match line.trim().to_lowercase().as_str() {
                "y" | "yes" => Answer::Install,
                "n" | "no" => Answer::Boot,
                _ => default,
            },
            Input::Silence | Input::Closed => default,
        }
    }
}

/// Why nothing is installed, for the person at the console.
fn explain(reason: &Keep, facts: &Facts) -> String {
    let installed = facts.with_role(Role::System).next().map(|(_, slot)| slot.content.to_string());
    let installed = installed.unwrap_or_else(|| "nothing".to_owned());
    let offered = facts.offer.as_ref().map(|o| o.version.as_str()).unwrap_or_default();
    match reason {
        Keep::NoOffer => format!("no server to compare with; installed: {installed}"),
        Keep::Current => format!("{installed} is the newest"),
        Keep::Older => format!("{installed} stays: the server's {offered} is older"),
        Keep::Policy => {
            format!("{installed} stays: update.policy is \"never\" (the server has {offered})")
        }
        Keep::Declined => format!("{installed} stays: {offered} was not wanted now"),
        Keep::NoSlot => format!(
            "{installed} stays: every slot holds a system that is needed; list a BACKUPFS in \
             controller/drives.toml to have room for {offered}"
        ),
    }
}
