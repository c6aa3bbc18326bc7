//! Phases 4 to 8: what was decided is done, one step after another, until a system is started.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use gse_protocol::{Release, config::Bundle, config::boot::Answer};

use super::{
    Machine,
    explain::{explain, offer, offered},
    kernel,
    new_system::{self, NewIndex, Past},
    online::Server,
    ready::{Failed, Ready},
    slots::Slots,
    start,
};
use crate::{
    clock,
    console::{self, Input},
    decide::{self, Cause, GivesWay, Next, NothingToBoot, Policy, Step, Why, background::Idle},
    dice,
    facts::{Content, Facts, Life, Role, Slot, SlotId},
    log::{Log, reason},
    supervisor,
};

/// How long a last resort that fails each time is announced before it is started again.
const PAUSE: Duration = Duration::from_secs(30);

/// The way from what was found to a system.
pub(super) struct Course<'a> {
    machine: &'a Machine,
    config: &'a Bundle,
    server: Option<&'a Server>,
    slots: Slots<'a>,
    facts: Facts,
    policy: Policy,
    /// Of the offered release, once it is wanted.
    index: Option<NewIndex>,
    /// Why the last of what was tried did not work.
    failure: Option<anyhow::Error>,
    /// The person knows that SYSFS is unhealthy, and why nothing is installed.
    told: Told,
}

#[derive(Default)]
struct Told {
    unhealthy: bool,
    kept: bool,
    wiped: bool,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        machine: &'a Machine,
        config: &'a Bundle,
        server: Option<&'a Server>,
        slots: Slots<'a>,
        mut facts: Facts,
    ) -> Self {
        facts.offer = server.map(|server| offer(&server.chosen.release));
        facts.window_closed = !config.boot.update.window.is_open(clock::now());
        let policy = Policy::from(&config.boot);
        let (index, failure, told) = (None, None, Told::default());
        Self { machine, config, server, slots, facts, policy, index, failure, told }
    }

    /// Takes note of systems that an earlier call of this program made ready, but that could not be started.
    pub(super) fn recall(&mut self, failed: &[Failed]) {
        for Failed { ready, why } in failed {
            let slots = self.facts.slots.iter_mut().enumerate();
            let Some((number, slot)) =
                slots.into_iter().find(|(_, slot)| slot.device == ready.device())
            else {
                continue;
            };
            if let Content::System(system) = &mut slot.content {
                system.life = ready.life();
            }
            self.failed(Step::Open(SlotId(number)), anyhow!("{why}"));
        }
    }

    /// Does what is next until a system is started.
    pub(super) fn run(mut self, start: &dyn Fn(&Ready, &Log) -> Result<()>) -> Result<()> {
        loop {
            let (slot, why) = self.choose().map_err(|nothing| self.hopeless(nothing))?;
            self.announce(slot, &why)?;
            if let Why::Instead(why) = why {
                let from = self.facts.with_role(Role::System).next().map(|(id, _)| id);
                self.note(&GivesWay { to: slot, from, why });
            }
            if self.brought_kernel(slot) {
                self.machine.log.info("restarting into it");
                drop(self);
                supervisor::reboot_now();
            }
            let ready = self.make_ready(slot);
            match ready.and_then(|ready| start(&ready, &self.machine.log)) {
                Ok(()) => return Ok(()),
                Err(e) => self.failed(Step::Open(slot), e),
            }
        }
    }

    /// Asks what is next, and does it, until there is a slot to start. What cannot be done is a fact, and
    /// something else is next.
    pub(super) fn choose(&mut self) -> Result<(SlotId, Why), NothingToBoot> {
        loop {
            match decide::next(&self.facts, &self.policy) {
                Next::Do(step, cause) => self.step(step, &cause),
                Next::Ask => self.facts.answer = Some(self.ask()),
                Next::Boot(slot, why) => return Ok((slot, why)),
                Next::Rescue(nothing) => return Err(nothing),
            }
        }
    }

    /// What is known by now, and the slots that it is about.
    pub(super) fn into_parts(self) -> (Slots<'a>, Facts) {
        (self.slots, self.facts)
    }

    fn step(&mut self, step: Step, cause: &Cause) {
        if *cause == Cause::Wipe
            && !std::mem::replace(&mut self.told.wiped, true)
            && let Some(token) = &self.config.boot.wipe.token
        {
            self.machine.log.warn(format_args!(
                "wipe.token {token:?} is new to this machine: all systems on it are made new, the users' data stay"
            ));
        }
        let installs = match cause {
            Cause::Update => true,
            // Afterwards what is old is only removed.
            Cause::Wipe => self.facts.with_role(Role::System).any(|(_, slot)| slot.is_stale()),
            _ => false,
        };
        if installs && self.index.is_none() {
            // Before anything is given up for it.
            if let Err(e) = self.fetch_index() {
                self.facts.give_up_offer();
                self.not_installed(e);
                return;
            }
        }
        if let Cause::Unhealthy(ailment) = cause
            && !std::mem::replace(&mut self.told.unhealthy, true)
        {
            let system = self.facts.with_role(Role::System).next();
            if let Some((device, content)) = system.map(|(_, slot)| (&slot.device, &slot.content)) {
                self.machine
                    .log
                    .warn(format_args!("{content} on {device} is unhealthy: {ailment}"));
            }
        }
        if let Some(gives_way) = decide::gives_way(&self.facts, step, cause) {
            if *cause == Cause::Settling {
                self.machine.log.warn(format_args!("{}; the backup takes over", gives_way.why));
            }
            self.note(&gives_way);
        }
        let log = &self.machine.log;
        let done = match step {
            Step::Relabel(..) | Step::Refuse(..) => self.effect(step),
            Step::Check(_) => log.phase("health check", || self.effect(step)),
            Step::Format(_) | Step::Install(_) => log.phase("new system", || self.effect(step)),
            Step::Clone { .. } => log.phase("backup", || self.effect(step)),
            Step::Open(_) => Ok(()),
        };
        match done {
            Ok(()) => {}
            Err(e) => self.failed(step, e),
        }
    }

    /// A fallback that cannot be written down takes place all the same.
    fn note(&mut self, gives_way: &GivesWay) {
        if let Err(e) = self.slots.note(gives_way, &self.facts) {
            self.machine.log.warn(reason(&e));
        }
    }

    /// Does a step to the disks, and keeps the facts true.
    fn effect(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Relabel(id, role) => self.slots.relabel(id, role)?,
            Step::Refuse(id, serial) => self.slots.refuse(id, serial)?,
            Step::Check(id) => {
                let init = start::handover(self.machine, self.config).init;
                let found = self.slots.check(id, &init)?;
                self.facts.checked(id, found);
                return Ok(());
            }
            Step::Format(id) => self.slots.format(id, self.config)?,
            Step::Install(id) => self.install(id)?,
            Step::Clone { from, to } => self.clone(from, to)?,
            Step::Open(_) => {}
        }
        self.facts.apply(step);
        Ok(())
    }

    fn fetch_index(&mut self) -> Result<()> {
        let server = self.server.context("no server offers anything")?;
        self.spread();
        let systems = self.slots.take_systems(&self.facts, None);
        let seeds = systems.iter().map(|(_, system)| system).collect::<Vec<_>>();
        let fetch = || new_system::fetch_index(self.machine, self.config, server, &seeds);
        let fetched = self.machine.log.phase("new system", fetch);
        for (id, system) in systems {
            self.slots.put_back(id, system);
        }
        self.index = Some(fetched?);
        Ok(())
    }

    /// Waits a part of `update.spread`, so that not all machines of a room fetch at once.
    fn spread(&self) {
        let spread = self.config.boot.update.spread;
        let delay = decide::update::delay(spread, self.facts.has_system(), dice::chance());
        if !delay.is_zero() {
            let seconds = delay.as_secs();
            self.machine.log.info(format_args!("fetching begins in {seconds} s (update.spread)"));
            thread::sleep(delay);
        }
    }

    /// Fetches the offered release beside the system in `running`, for the next start, and says why there is nothing
    /// more to do.
    ///
    /// # Errors
    /// A step that failed; what it left is worth nothing.
    pub(super) fn in_background(&mut self, running: SlotId) -> Result<Idle> {
        loop {
            match decide::background::next(&self.facts, running) {
                Err(idle) => {
                    if idle == Idle::Waiting {
                        self.stage_kernel()?;
                    }
                    return Ok(idle);
                }
                Ok(step) => {
                    if self.index.is_none() {
                        self.fetch_index()?;
                        // Before the system: what waits is complete.
                        self.stage_kernel()?;
                    }
                    self.effect(step)?;
                }
            }
        }
    }

    fn install(&mut self, id: SlotId) -> Result<()> {
        let server = self.server.context("no server offers anything")?;
        let index = self.index.as_ref().context("the index was not fetched")?;
        let Release { name, version, .. } = &server.chosen.release;
        let mut slot = self.slots.take(id)?;
        let device = slot.device().display();
        self.machine.log.info(format_args!("installing {name} {version} into {device}"));
        let others = self.slots.take_systems(&self.facts, Some(id));
        let seeds = others.iter().map(|(_, other)| other).collect::<Vec<_>>();
        let past = Past::of(&self.facts, &self.slots);
        new_system::install(self.machine, self.config, server, index, past, &seeds, &mut slot)?;
        for (other, open) in others {
            self.slots.put_back(other, open);
        }
        self.slots.put_back(id, slot);
        Ok(())
    }

    fn clone(&mut self, from: SlotId, to: SlotId) -> Result<()> {
        let system = self.facts.slot(from).and_then(Slot::system).context("nothing to clone")?;
        let (original, mut slot) = (self.slots.take(from)?, self.slots.take(to)?);
        let (version, device) = (&system.version, slot.device().display());
        self.machine.log.info(format_args!("cloning version {version} into {device}"));
        new_system::clone(
            self.machine,
            self.config,
            self.server,
            Past::of(&self.facts, &self.slots),
            (&original, system),
            &mut slot,
        )?;
        self.slots.put_back(from, original);
        self.slots.put_back(to, slot);
        Ok(())
    }

    /// Whether the system that is about to be started has brought a kernel of its own, which is to start it. One that
    /// cannot be had is no reason not to start the system: it may do with the kernel that runs.
    fn brought_kernel(&mut self, slot: SlotId) -> bool {
        let Some(system) = self.facts.slot(slot).and_then(Slot::system) else { return false };
        let (version, serial) = (system.version.clone(), system.serial);
        let server = self.server.filter(|server| server.chosen.release.serial == serial);
        let kept;
        let release = match server {
            Some(server) => &server.chosen.release,
            // It was fetched in the background of another system, with its kernel.
            None if system.life == Some(Life::FRESH) => {
                let Ok(found) = self.slots.release(slot, self.config) else { return false };
                kept = found;
                &kept
            }
            None => return false,
        };
        let Some(boot) = &self.slots.found().boot else { return false };
        let log = &self.machine.log;
        let brought = log.phase("kernel", || kernel::bring(self.machine, boot, server, release));
        brought.unwrap_or_else(|e| {
            log.warn(format_args!("the kernel of version {version} is not used: {}", reason(&e)));
            false
        })
    }

    /// Fetches the kernel of the offered release for the next start, if it brings one.
    fn stage_kernel(&self) -> Result<()> {
        if let Some((server, boot)) = self.server.zip(self.slots.found().boot.as_ref()) {
            kernel::stage(self.machine, boot, Some(server), &server.chosen.release)?;
        }
        Ok(())
    }

    fn make_ready(&mut self, slot: SlotId) -> Result<Ready> {
        start::make_ready(self.machine, self.config, &mut self.slots, &self.facts, slot)
    }

    /// Takes note of a step that failed.
    fn failed(&mut self, step: Step, error: anyhow::Error) {
        let log = &self.machine.log;
        let why = reason(&error);
        match step {
            Step::Open(slot) => {
                log.warn(&why);
                if let Err(e) = start::undo(&mut self.slots, &self.facts, slot, log) {
                    log.warn(reason(&e));
                }
                self.failure = Some(error);
            }
            Step::Install(_) => self.not_installed(error),
            Step::Clone { .. } => log.warn(format_args!("there is no backup: {why}")),
            Step::Format(_) => {
                log.warn(&why);
                self.failure = Some(error);
            }
            Step::Relabel(..) | Step::Refuse(..) | Step::Check(_) => log.warn(&why),
        }
        self.facts.failed(step, &why);
    }

    fn not_installed(&mut self, error: anyhow::Error) {
        let version = offered(&self.facts);
        let why = reason(&error);
        self.machine.log.warn(format_args!("version {version} was not installed: {why}"));
        self.failure = Some(error);
    }

    /// The reason for rescue: what failed, rather than the empty slot that it left.
    fn hopeless(&mut self, nothing: NothingToBoot) -> anyhow::Error {
        self.failure.take().unwrap_or_else(|| nothing.into())
    }

    /// Says what is started and why; and where that failed often, waits for a person.
    fn announce(&mut self, id: SlotId, why: &Why) -> Result<()> {
        let log = &self.machine.log;
        if !std::mem::replace(&mut self.told.kept, true)
            && let Some(text) = decide::update::kept(&self.facts, &self.policy)
                .and_then(|keep| explain(keep, &self.facts))
        {
            log.info(text);
            if decide::wipe::waits(&self.facts) {
                log.warn("the systems that wipe.token orders to make new stay until a server has a release for that");
            }
        }
        let Some(Slot { device, content, .. }) = self.facts.slot(id) else { return Ok(()) };
        match why {
            Why::Healthy | Why::Instead(_) => {}
            Why::Allowed(life) => log.warn(format_args!(
                "{content} on {device} did not end its last life cycle well (tries: {}, unclean shutdowns: \
                 {}), as often as health.tries and health.unclean_shutdowns allow",
                life.tries,
                life.unclean()
            )),
            Why::LastResort { ailment, pause } => {
                log.warn(format_args!(
                    "{content} on {device} is unhealthy: {ailment}; it is started all the same, as \
                     there is nothing better"
                ));
                if *pause {
                    let seconds = PAUSE.as_secs();
                    console::drop_typed();
                    let prompt = format!("gse: starting it in {seconds} s; Enter opens rescue ");
                    if let Input::Line(_) = console::ask(&prompt, PAUSE) {
                        bail!("{content} on {device} is unhealthy: {ailment}");
                    }
                }
            }
        }
        Ok(())
    }

    fn ask(&self) -> Answer {
        let policy = &self.config.boot.update;
        let (timeout, default) = (policy.ask_timeout, policy.ask_default);
        let version = offered(&self.facts);
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
