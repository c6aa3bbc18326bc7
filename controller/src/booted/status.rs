//! `gse-controller status`: which system runs, how it is, and what there is beside it.

use std::fmt;

use anyhow::{Context as _, Result};
use gse_protocol::config::drives::Filesystem;
use serde::Serialize;

use super::{Slot, boot_report, date::Date};
use crate::{
    disk::{fallback, records::CycleState},
    report::{Backup, Place},
    startup::{self, Brief},
};

/// How the running system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Its startup is over, and all checks have passed.
    Healthy,
    /// Its startup is over, and it did not go well.
    Unhealthy,
    /// It has not reported yet.
    Starting,
}

/// The answer, which is JSON with these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The label of the slot that runs, or `memory`.
    pub slot: String,
    /// Its partition.
    pub device: String,
    /// Its filesystem; none of a system in memory, of which there is no record.
    pub filesystem: Option<Filesystem>,
    /// Of the installed release.
    pub version: String,
    /// Of the installed release.
    pub serial: u64,
    /// Of the configuration in use.
    pub config_serial: u64,
    /// How it is.
    pub health: Health,
    /// Why it is unhealthy.
    pub reason: Option<String>,
    /// Where its life cycle is, as its record says; none where there is no such record.
    pub cycle: Option<CycleState>,
    /// How many more startups may fail until the backup takes over; none where the system need not report.
    pub tries_left: Option<u32>,
    /// How many more shutdowns may be unclean until the backup takes over; likewise.
    pub unclean_shutdowns_left: Option<u32>,
    /// The last time that a system of this machine gave way to another.
    pub last_fallback: Option<Fallback>,
    /// The system that takes over when this one fails.
    pub backup: Option<Backup>,
}

/// A system that gave way to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// When, by the machine's clock: RFC 3339, in UTC.
    pub time: String,
    /// The version of the system that gave way; none where nothing was left of it.
    pub version: Option<String>,
    /// Its serial.
    pub serial: Option<u64>,
    /// Why: a sentence.
    pub why: String,
}

impl From<fallback::Fallback> for Fallback {
    fn from(found: fallback::Fallback) -> Self {
        let fallback::Fallback { time, version, serial, why, .. } = found;
        Self { time: Date(time).to_string(), version, serial: serial.map(|s| s.0), why }
    }
}

/// Asks the running system.
///
/// # Errors
/// The controller did not start it, somebody else than root asks, or its slot cannot be read.
pub fn status(place: &Place) -> Result<Status> {
    let report = boot_report(place)?;
    let policy = startup::policy(&place.info)?;
    let cycle = match report.filesystem {
        Some(_) => Slot::running(place, &report)?.records()?.cycle()?,
        None => None,
    };
    let (health, reason) = match Brief::load(&place.info)? {
        None => (Health::Starting, None),
        Some(Brief { up: true, .. }) => (Health::Healthy, None),
        Some(Brief { reason, .. }) => (Health::Unhealthy, reason),
    };
    let life = cycle.map(|cycle| cycle.life());
    let counted = life.filter(|_| policy.require_report);
    // What is up has not failed to shut down yet.
    let left = |allowed: u32, failed: u32| allowed.saturating_sub(failed);
    Ok(Status {
        slot: report.label,
        device: report.device,
        filesystem: report.filesystem,
        version: report.version,
        serial: report.serial,
        config_serial: report.config_serial,
        health,
        reason,
        cycle: life.map(|life| life.state),
        tries_left: counted.map(|life| left(policy.tries, life.tries)),
        unclean_shutdowns_left: counted
            .map(|life| left(policy.unclean_shutdowns, life.unclean_shutdowns)),
        last_fallback: report.fallback.map(Fallback::from),
        backup: report.backup,
    })
}

impl Status {
    /// As JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("writing JSON")
    }
}

/// For people.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, device, filesystem, version, serial, .. } = self;
        let mut line = |name: &str, text: &dyn fmt::Display| writeln!(f, "{name:15} {text}");
        let runs = format_args!("version {version} (serial {serial})");
        match filesystem {
            Some(filesystem) => line(slot, &format_args!("{runs} on {device}, {filesystem}"))?,
            None => line(slot, &runs)?,
        }
        match (self.health, &self.reason) {
            (Health::Unhealthy, Some(reason)) => {
                line("health", &format_args!("unhealthy: {reason}"))?
            }
            (Health::Unhealthy, None) => line("health", &"unhealthy")?,
            (Health::Healthy, _) => line("health", &"healthy")?,
            (Health::Starting, _) => line("health", &"not reported yet")?,
        }
        match self.tries_left.zip(self.unclean_shutdowns_left) {
            Some((tries, unclean)) => {
                line("tries left", &format_args!("{tries} (and {unclean} unclean shutdowns)"))?
            }
            None => line("tries left", &"not counted")?,
        }
        match &self.last_fallback {
            Some(fallback) => line("last fallback", fallback)?,
            None => line("last fallback", &"never")?,
        }
        match &self.backup {
            Some(Backup { device, version, serial, .. }) => {
                line("backup", &format_args!("version {version} (serial {serial}) on {device}"))?;
            }
            None => line("backup", &"none")?,
        }
        line("configuration", &format_args!("serial {}", self.config_serial))
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, version, serial, why } = self;
        write!(f, "{time}, ")?;
        if let Some((version, serial)) = version.as_ref().zip(*serial) {
            write!(f, "from version {version} (serial {serial}): ")?;
        }
        f.write_str(why)
    }
}
