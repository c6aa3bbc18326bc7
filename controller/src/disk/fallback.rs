//! `fallback.json`: the last time that a system of this machine gave way to another, and why.
//!
//! A file of its own, because nothing is decided by it: one that is damaged takes no system away. Every slot that
//! is written gets a copy of it, as of what is refused, so that it outlasts the slot that failed. It is in JSON because
//! it is in `boot.json` too.

use gse_protocol::Serial;
use serde::{Deserialize, Serialize};

/// A system that gave way to another, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Rises by one with each fallback of this machine: of the records of several slots, the highest is the last.
    pub number: u64,
    /// When, in seconds since 1970 by the machine's clock.
    pub time: u64,
    /// The version of the system that gave way; none where nothing was left of it.
    pub version: Option<String>,
    /// Its serial.
    pub serial: Option<Serial>,
    /// Why: a sentence.
    pub why: String,
}

impl Fallback {
    /// The one after `last`, at `time`. `failed` is the version and the serial of the system that gave way.
    pub fn after(
        last: Option<&Self>,
        time: u64,
        failed: Option<(String, Serial)>,
        why: String,
    ) -> Self {
        let number = last.map_or(0, |last| last.number).saturating_add(1);
        let (version, serial) = failed.unzip();
        Self { number, time, version, serial, why }
    }
}
