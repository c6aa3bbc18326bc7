//! `[health]` of `controller/boot.toml`: how a system shows that it is healthy, and what watches over it.

use serde::{Deserialize, Serialize};

use super::Error;

/// The least seconds of silence after which a hardware watchdog may act.
const MIN_WATCHDOG_LIMIT: u32 = 5;

/// How a system shows that it is healthy, and what watches over it. All times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// How many startups in a row a system may take to come up: at least 1, which allows no failure.
    pub tries: u32,
    /// How many shutdowns in a row may be unclean, which is what a pulled plug is.
    pub unclean_shutdowns: u32,
    /// Whether a system that has proven itself is cloned where there is no backup.
    pub clone: bool,
    /// How long a startup may take, health scripts included, until the machine is restarted. 0: as long
    /// as it likes.
    pub startup_limit: u32,
    /// How long each health script may take.
    pub script_limit: u32,
    /// Whether a system that does not report is unhealthy. Without this, life cycles are not kept.
    pub require_report: bool,
    /// After how long a kernel that panics restarts the machine, unless `panic=` on its command line
    /// says it. 0: never.
    pub panic_reboot: u32,
    /// What a hardware watchdog, where there is one, guards.
    pub watchdog: Watchdog,
    /// After how long without a sign of life the hardware watchdog resets the machine.
    pub watchdog_limit: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            tries: 1,
            unclean_shutdowns: 0,
            clone: true,
            startup_limit: 600,
            script_limit: 60,
            require_report: true,
            panic_reboot: 10,
            watchdog: Watchdog::Startup,
            watchdog_limit: 60,
        }
    }
}

/// `health.watchdog`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watchdog {
    /// Nothing: it is left alone.
    Off,
    /// The startup, until the system has reported.
    Startup,
    /// The system for as long as it runs.
    Always,
}

impl Health {
    /// Looks for values that no machine can obey. `text` is that of `file`, for the line in an error.
    pub(super) fn check(&self, file: &str, text: &str) -> Result<(), Error> {
        let refuse = |key, message| Err(Error::new(file, message).in_line_of(text, key));
        if self.tries == 0 {
            return refuse("tries", "health.tries must be at least 1: a system needs a try".into());
        }
        if self.script_limit == 0 {
            return refuse("script_limit", "health.script_limit must be at least 1 second".into());
        }
        if self.watchdog_limit < MIN_WATCHDOG_LIMIT {
            let message =
                format!("health.watchdog_limit must be at least {MIN_WATCHDOG_LIMIT} seconds");
            return refuse("watchdog_limit", message);
        }
        Ok(())
    }
}
