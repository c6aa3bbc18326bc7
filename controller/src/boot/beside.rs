//! Beside a system that runs: what the update of its next start costs, and an update that is fetched for that.
//!
//! It is the machinery of the boot on the disks of a running machine. Slots are mounted where nobody else sees
//! it, read-only but for the one that is written, which is never the one that runs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{Bundle, drives::Role as PartitionRole};
use rustix::{
    fs::{FlockOperation, flock},
    io::{Errno, retry_on_intr},
};
use serde::Serialize;

use super::{
    Host, Machine, TOOLS,
    cycle::Course,
    explain::{explain, offer},
    new_system,
    online::{self, Server},
    slots::Slots,
};
use crate::{
    clock,
    cmdline::CmdLine,
    config,
    decide::{
        self, Keep, Policy,
        background::Idle,
        update::{self, patience},
    },
    disk::{mkfs, probe::Loops, tools::Tools},
    drivers::Hotplug,
    facts::{Checked, Content, Cycle, Facts, Life, Role, SlotId, System},
    install::Costs,
    last_servers::LastServers,
    log::Log,
    mount,
    report::{BootReport, Place},
    startup,
    supervisor::RUN_DIR,
};

/// In [`RUN_DIR`]: what was configured for this start, and the servers that it knew of.
const LEFT: &str = "config.d";
/// In [`RUN_DIR`]: programs that make filesystems, for systems that have none.
const LEFT_TOOLS: &str = "tools";

/// Leaves what a running system has to know of its next start.
pub(super) fn leave(machine: &Machine, config: &Bundle, server: Option<&Server>) -> Result<()> {
    let run = Path::new(RUN_DIR);
    let left = run.join(LEFT);
    config::leave(config, &left).context("leaving the configuration for the system")?;
    if let Some(server) = server {
        let (servers, tls_roots) = (server.chosen.servers.clone(), None);
        let last = LastServers { servers, tls_roots };
        last.keep(&left).context("leaving the servers for the system")?;
    }
    if !config.boot.update.background {
        return Ok(());
    }
    let tools = run.join(LEFT_TOOLS);
    fs::create_dir_all(&tools).context("leaving programs for the system")?;
    for role in [PartitionRole::System, PartitionRole::Backup] {
        let Some(partition) = config.drives.partition(role) else { continue };
        let program = mkfs::program(partition.filesystem);
        // The system may have it, even where this image has not.
        if let Ok(path) = machine.tools.find(program) {
            fs::copy(path, tools.join(program)).with_context(|| format!("leaving {program}"))?;
        }
    }
    Ok(())
}

/// What the update of the next start costs. As JSON it has these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The base URL of the server, and then those to fall back to.
    pub servers: Vec<String>,
    /// The version that runs.
    pub installed: String,
    /// Its serial.
    pub installed_serial: u64,
    /// The version that the server offers.
    pub offered: String,
    /// Its serial.
    pub offered_serial: u64,
    /// Whether the next start installs it, or asks whether to, if it finds what is there now.
    pub wanted: bool,
    /// Why it does not.
    pub why: Option<String>,
    /// Whether it was fetched already, and waits for the next start.
    pub waiting: bool,
    /// The partition that it goes into, or is in.
    pub slot: Option<String>,
    /// What was fetched of the index, in bytes: the whole, or what makes it out of one that is here; none if nothing is to be
    /// fetched.
    pub index: Option<u64>,
    /// What each source gives; likewise.
    pub costs: Option<Costs>,
}

/// In [`RUN_DIR`]: who works beside the system holds a lock on it.
const LOCK: &str = "update.lock";

/// What to do where somebody else works beside the system already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Fail: a person is told at once.
    Fail,
    /// Wait until that is done: a service has time.
    Wait,
}

/// A turn at what only one program may do beside the system. It ends when this is dropped.
struct Turn(File);

impl Turn {
    fn take(info: &Path, busy: Busy) -> Result<Self> {
        let lock = File::create(info.join(LOCK)).context("making a lock")?;
        let take = match busy {
            Busy::Fail => FlockOperation::NonBlockingLockExclusive,
            Busy::Wait => FlockOperation::LockExclusive,
        };
        match retry_on_intr(|| flock(&lock, take)) {
            Err(Errno::WOULDBLOCK) => {
                bail!("an update is being fetched or planned at this moment: try again in a minute")
            }
            taken => taken.context("locking what is beside the system")?,
        }
        Ok(Self(lock))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that is just being forked still has the file open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The machine of a running system.
pub struct Beside {
    info: PathBuf,
    /// Nobody else writes to slots.
    _turn: Turn,
    machine: Machine,
    config: Bundle,
    report: BootReport,
    last: Option<LastServers>,
}

impl Beside {
    /// Looks at what the controller left in `place`. From here on, what this thread mounts is seen by nobody else.
    ///
    /// # Errors
    /// The controller did not start this system, it runs from memory, or somebody else is at work and `busy` says to fail.
    pub fn new(place: &Place, loops: Loops, log: Arc<Log>, busy: Busy) -> Result<Self> {
        let report = BootReport::load(&place.info)?;
        if report.filesystem.is_none() {
            bail!("this system runs from memory: each start fetches the newest release");
        }
        let turn = Turn::take(&place.info, busy)?;
        let left = place.info.join(LEFT);
        let config = config::left(&left)?;
        let last = LastServers::load(&left);
        mount::keep_to_this_thread()?;
        let cmdline = CmdLine::read(Path::new("/"), Path::new("/proc"));
        let hotplug = Hotplug::beside_udev(|| ())?;
        // Its own come first: they fit its libraries.
        let tools = format!("{TOOLS}:{}", place.info.join(LEFT_TOOLS).display());
        let tools = Tools::from_path(tools.as_ref());
        let machine = Machine { host: Host::Running, log, cmdline, hotplug, tools, loops };
        Ok(Self { info: place.info.clone(), _turn: turn, machine, config, report, last })
    }

    /// What the configuration says.
    pub fn config(&self) -> &Bundle {
        &self.config
    }

    /// Plans the update of the next start. Nothing is written; of what is fetched, the tables of the patch file are the
    /// largest.
    ///
    /// # Errors
    /// No server, no index, or disks that cannot be read.
    pub fn plan(&self) -> Result<Planned> {
        let server = self.server()?;
        let (mut slots, mut facts, running) = self.look(&server)?;
        let waiting = decide::background::next(&facts, running) == Err(Idle::Waiting);
        if startup::policy(&self.info)?.require_report {
            // As a clean shutdown leaves it.
            let life = Life { state: Cycle::Closed, ..Life::FRESH };
            self.came_to(&mut facts, running, Some(life));
        }
        let policy = Policy::from(&self.config.boot);
        let keep = update::kept(&facts, &policy).filter(|_| !waiting);
        let useless = matches!(
            keep,
            Some(Keep::NoOffer | Keep::Current | Keep::Older | Keep::Refused | Keep::NoSlot)
        );
        let incoming = || facts.with_role(Role::Incoming).next().map(|(id, _)| id);
        let target = if waiting { incoming() } else { update::target(&facts, &policy) };
        let target = target.filter(|_| !useless);
        let (mut index, mut costs) = (None, None);
        if let Some(target) = target.filter(|_| !waiting) {
            let systems = slots.take_systems(&facts, None);
            let seeds = |not| {
                let others = systems.iter().filter(move |(id, _)| Some(*id) != not);
                others.map(|(_, system)| system).collect::<Vec<_>>()
            };
            let (machine, config) = (&self.machine, &self.config);
            let new = new_system::fetch_index(machine, config, &server, &seeds(None))?;
            let others = seeds(Some(target));
            let planned = new_system::planned(
                machine,
                config,
                &server,
                server.retry,
                &new,
                &others,
                |plan, _| Ok(plan.costs()),
            );
            (index, costs) = (Some(new.fetched), Some(planned?));
        }
        let release = &server.chosen.release;
        Ok(Planned {
            servers: server.chosen.servers.clone(),
            installed: self.report.version.clone(),
            installed_serial: self.report.serial,
            offered: release.version.clone(),
            offered_serial: release.serial.0,
            wanted: keep.is_none() && !waiting,
            why: keep.and_then(|keep| explain(keep, &facts)),
            waiting,
            slot: target.and_then(|id| facts.slot(id)).map(|slot| slot.device.clone()),
            index,
            costs,
        })
    }

    /// Fetches the offered release for the next start, whatever `update.policy` says. `None`: it is there. Else why it
    /// is not, in words.
    ///
    /// # Errors
    /// What failed. The running system, and the slot of a system that is needed, are as they were.
    pub fn fetch(&self) -> Result<Option<String>> {
        let server = self.server()?;
        let (slots, facts, running) = self.look(&server)?;
        let mut course = Course::new(&self.machine, &self.config, Some(&server), slots, facts);
        let idle = course.in_background(running);
        let (_slots, facts) = course.into_parts();
        self.forget_backup(&facts)?;
        Ok(match idle? {
            Idle::Waiting => None,
            Idle::Keep(keep) => explain(keep, &facts),
            Idle::NotSystem => Some(
                "the running system is not that of SYSFS, which could not be started".to_owned(),
            ),
            Idle::Unproven => Some(
                "the running system has yet to shut down cleanly: until then the other slot holds the only one that has"
                    .to_owned(),
            ),
        })
    }

    /// Takes note that the update has taken the place of the backup.
    fn forget_backup(&self, facts: &Facts) -> Result<()> {
        let Some(backup) = &self.report.backup else { return Ok(()) };
        if facts.with_role(Role::Backup).any(|(_, slot)| slot.device == backup.device) {
            return Ok(());
        }
        BootReport { backup: None, ..self.report.clone() }.store(&self.info)
    }

    fn server(&self) -> Result<Server> {
        let patience = patience(self.config.boot.update.when_busy, true);
        online::beside(&self.machine, &self.config, self.last.clone(), patience)
    }

    /// The slots, with what was known of the running system when it was started, and which one that is.
    fn look(&self, server: &Server) -> Result<(Slots<'_>, Facts, SlotId)> {
        let disks = self.machine.probe(&self.config)?;
        let (slots, mut facts) = Slots::look(&self.machine, disks, &self.config)?;
        facts.offer = Some(offer(&server.chosen.release));
        facts.window_closed = !self.config.boot.update.window.is_open(clock::now());
        let running = facts.slots().find(|(_, slot)| slot.device == self.report.device);
        let (running, _) = running.with_context(|| {
            format!("{}, where this system runs from, is not found", self.report.device)
        })?;
        self.came_to(&mut facts, running, self.report.life);
        facts.checked(running, Checked::Sound);
        Ok((slots, facts, running))
    }

    fn came_to(&self, facts: &mut Facts, running: SlotId, life: Option<Life>) {
        if let Some(Content::System(System { life: now, .. })) =
            facts.slots.get_mut(running.0).map(|slot| &mut slot.content)
        {
            *now = life;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_owner_even_while_the_file_is_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let turn = Turn::take(dir.path(), Busy::Fail).unwrap();
        let inherited = turn.0.try_clone().unwrap();
        assert!(Turn::take(dir.path(), Busy::Fail).is_err());
        drop(turn);
        Turn::take(dir.path(), Busy::Fail).unwrap();
        drop(inherited);
    }
}
