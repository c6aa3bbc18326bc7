//! `controller/boot.toml`: update, health and rescue policy.

use serde::Deserialize;

use super::{Error, health::Health, memory::Memory, window::Window};
use crate::release::is_safe_path;

/// The whole file; every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Boot {
    /// The logs of how many starts BOOTFS keeps, and of as many that failed. 0: none.
    pub keep_logs: u32,
    /// Names of EFI boot entries, in which `*` and `?` are wild. Entries that fit the first come first, and so on; the
    /// others stay behind them as they are.
    pub boot_order: Vec<String>,
    /// When and how a new release is installed.
    pub update: Update,
    /// How a system shows that it is healthy.
    pub health: Health,
    /// What a machine does when nothing boots.
    pub rescue: Rescue,
    /// The real system's first process.
    pub init: Init,
    /// Whether all systems are to be made new.
    pub wipe: Wipe,
    /// When a system runs from memory.
    pub memory: Memory,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            keep_logs: 8,
            boot_order: Vec::new(),
            update: Update::default(),
            health: Health::default(),
            rescue: Rescue::default(),
            init: Init::default(),
            wipe: Wipe::default(),
            memory: Memory::default(),
        }
    }
}

/// When and how a new release is installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Whether to install a release that differs from the installed one. A machine that has no system
    /// installs one whatever this says.
    pub policy: Policy,
    /// Which slot a new release goes into.
    pub mode: Mode,
    /// Seconds to wait for an answer when `policy = "ask"`.
    pub ask_timeout: u32,
    /// What happens when nobody answers in that time.
    pub ask_default: Answer,
    /// The times of day at which a machine that has a system may install another.
    pub window: Window,
    /// What a machine that has a system does when all servers are busy.
    pub when_busy: WhenBusy,
    /// Seconds of which each machine waits a part, by chance, before it fetches a release.
    pub spread: u32,
    /// Whether a running system fetches a release for the next start.
    pub background: bool,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            policy: Policy::Auto,
            mode: Mode::Rotate,
            ask_timeout: 30,
            ask_default: Answer::Boot,
            window: Window::default(),
            when_busy: WhenBusy::Wait,
            spread: 0,
            background: false,
        }
    }
}

/// `update.when_busy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenBusy {
    /// Wait until one has time.
    Wait,
    /// Boot what is there, and update at another start.
    Boot,
}

/// `update.policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Ask the person at the console.
    Ask,
    /// Install it.
    Auto,
    /// Boot what is there.
    Never,
}

/// `update.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Into the other slot, and then the labels move.
    Rotate,
    /// Into the slot of SYSFS, after BACKUPFS was made its clone.
    InPlace,
}

/// An answer to the question whether to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Install the new release.
    Install,
    /// Boot what is there.
    Boot,
}

/// What a machine does when nothing boots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rescue {
    /// Hash of the password that opens a shell, as `openssl passwd -6` prints it. Without one there is
    /// no shell.
    pub password: Option<String>,
    /// Seconds without a key press until the machine reboots by itself.
    pub reboot_after: u32,
}

impl Default for Rescue {
    fn default() -> Self {
        Self { password: None, reboot_after: 300 }
    }
}

/// The real system's first process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Init {
    /// Absolute path in the image; `init=` on the kernel command line wins.
    pub path: String,
}

impl Default for Init {
    fn default() -> Self {
        Self { path: "/sbin/init".to_owned() }
    }
}

/// "Wipe the whole setup and start new."
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wipe {
    /// The name of this order. A machine obeys each once.
    pub token: Option<String>,
}

impl Boot {
    /// Reads `controller/boot.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/boot.toml";
        let boot: Self = super::parse(FILE, text)?;
        if let Some(hash) = &boot.rescue.password
            && (!hash.starts_with("$6$") || hash.split('$').count() < 4)
        {
            let message = "rescue.password is not a hash as `openssl passwd -6` prints it";
            return Err(Error::new(FILE, message).in_line_of(text, hash));
        }
        if boot.rescue.reboot_after == 0 {
            let message =
                "rescue.reboot_after must be at least 1 second: somebody has to read what is wrong";
            return Err(Error::new(FILE, message).in_line_of(text, "reboot_after"));
        }
        boot.health.check(FILE, text)?;
        if boot.update.spread > 6 * 3600 {
            let error = Error::new(FILE, "update.spread is at most 21600, six hours");
            return Err(error.in_line_of(text, "spread"));
        }
        // BOOTFS has kernels to hold.
        if boot.keep_logs > 100 {
            let error = Error::new(FILE, "keep_logs is at most 100");
            return Err(error.in_line_of(text, "keep_logs"));
        }
        if let Some(token) =
            boot.wipe.token.as_ref().filter(|t| !is_safe_path(t, 1) || t.len() > 64)
        {
            let message = format!(
                "wipe.token {token:?} must be up to 64 letters, digits and . _ + ~ -, such as \"2027-spring\""
            );
            return Err(Error::new(FILE, message).in_line_of(text, "token"));
        }
        if !boot.init.path.starts_with('/') {
            let error = Error::new(FILE, "init.path must start with /");
            return Err(error.in_line_of(text, "path"));
        }
        Ok(boot)
    }
}
