//! `gse-controller plan` and `fetch`: what the next start's update costs, and an update that is fetched for it.

use std::{fmt, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::boot::Policy;
use rustix::process::nice;

use super::boot_report;
use crate::{
    boot::beside::{Beside, Busy, Planned},
    clock,
    disk::probe::Loops,
    install::Mib,
    log::{Log, reason},
    report::Place,
    startup::{self, Brief},
};

/// What there is to say when all is done.
pub const WAITS: &str = "the update waits for the next start";
/// How often the service asks the server.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How often it looks whether the system is up.
const UP: Duration = Duration::from_secs(5);
/// What a process asks for that gives way to all others, with its input and output too: nice(2), ioprio_set(2).
const LEAST: i32 = 19;

/// Plans the update of the next start.
///
/// # Errors
/// Those of [`Beside`], and somebody else than root asks.
pub fn plan(place: &Place, loops: Loops, log: Arc<Log>) -> Result<Planned> {
    boot_report(place)?;
    alone(|| Beside::new(place, loops, log, Busy::Fail)?.plan())
}

/// Fetches the offered release for the next start. `None`: it is there. Else why it is not.
///
/// # Errors
/// The running system is not known to be healthy, somebody else than root asks, and those of [`Beside`].
pub fn fetch(place: &Place, loops: Loops, log: Arc<Log>) -> Result<Option<String>> {
    boot_report(place)?;
    let reports = startup::policy(&place.info)?.require_report;
    if reports && !Brief::load(&place.info)?.is_some_and(|brief| brief.up) {
        bail!(
            "the running system has not reported that it is healthy, so nothing is written beside it"
        );
    }
    alone(|| Beside::new(place, loops, log, Busy::Fail)?.fetch())
}

/// Works in a thread of its own, with whose end its mounts go. What the system mounts and unmounts meanwhile is not held
/// for longer than that.
fn alone<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, work);
        match worker.context("starting a thread")?.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread failed"),
        }
    })
}

/// Fetches each release that appears, as long as the system runs and `update.background` and `update.policy` say so.
///
/// # Errors
/// The controller did not start this system, or somebody else than root asks.
pub fn serve(place: &Place, log: &Arc<Log>) -> Result<()> {
    boot_report(place)?;
    nice(LEAST).context("giving way to others")?;
    let reports = startup::policy(&place.info)?.require_report;
    loop {
        match Brief::load(&place.info)? {
            Some(Brief { up: false, .. }) => return Ok(()),
            None if reports => thread::sleep(UP),
            Some(_) | None => break,
        }
    }
    let mut said = String::new();
    loop {
        match alone(|| round(place, log))? {
            None => return Ok(()),
            Some(Round { says, wait }) => {
                if says != said {
                    log.info(&says);
                    said = says;
                }
                thread::sleep(wait);
            }
        }
    }
}

/// What came of a look at the server, and how long to wait until the next.
struct Round {
    says: String,
    wait: Duration,
}

/// Fetches what there is to fetch; `None` if the configuration does not want that.
fn round(place: &Place, log: &Arc<Log>) -> Result<Option<Round>> {
    let beside = Beside::new(place, Loops::Ignore, Arc::clone(log), Busy::Wait)?;
    let update = &beside.config().boot.update;
    if !update.background || update.policy != Policy::Auto {
        return Ok(None);
    }
    let opens = update.window.opens_in(clock::now());
    if opens > 0 {
        let says = format!("update.window opens in {} minutes", opens.div_ceil(60));
        return Ok(Some(Round { says, wait: Duration::from_secs(opens) }));
    }
    let says = match beside.fetch() {
        Ok(None) => WAITS.to_owned(),
        Ok(Some(why)) => why,
        Err(e) => reason(&e),
    };
    Ok(Some(Round { says, wait: INTERVAL }))
}

/// For people.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, installed, offered, installed_serial, offered_serial, .. } = self;
        let mut line = |name: &str, text: &dyn fmt::Display| writeln!(f, "{name:10} {text}");
        line("installed", &format_args!("version {installed} (serial {installed_serial})"))?;
        line("offered", &format_args!("version {offered} (serial {offered_serial})"))?;
        line("server", &servers.join(", "))?;
        if let Some(slot) = &self.slot {
            line("slot", slot)?;
        }
        if let (Some(index), Some(costs)) = (self.index, self.costs) {
            line("index", &Mib(index))?;
            for (name, amount) in
                [("local", costs.local), ("patches", costs.patches), ("image", costs.image)]
            {
                let (files, bytes, fetched) =
                    (amount.files, Mib(amount.bytes), Mib(amount.fetched));
                line(
                    name,
                    &format_args!("{files} files, {bytes}, of which {fetched} are fetched"),
                )?;
            }
            let fetched = costs.patches.fetched + costs.image.fetched;
            line("fetched", &Mib(index.saturating_add(fetched)))?;
        }
        let next: &dyn fmt::Display = match (&self.why, self.waiting, self.wanted) {
            (Some(why), ..) => why,
            (None, true, _) => &"it was fetched, and the next start promotes it",
            (None, false, true) => &"it is installed",
            (None, false, false) => &"nothing is done",
        };
        line("next start", next)
    }
}
