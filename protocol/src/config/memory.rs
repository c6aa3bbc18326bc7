//! `[memory]` of `controller/boot.toml`: when a system runs from memory instead of a disk.

use serde::Deserialize;

/// When a system runs from memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// When. `gse.diskless` on the kernel command line means always.
    pub run: RunFromMemory,
    /// Seconds to wait for an answer when `run = "ask"`.
    pub ask_timeout: u32,
    /// What happens when nobody answers in that time.
    pub ask_default: Place,
}

impl Default for Memory {
    fn default() -> Self {
        Self { run: RunFromMemory::NoDisk, ask_timeout: 30, ask_default: Place::Install }
    }
}

/// `memory.run`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunFromMemory {
    /// On a machine without a disk.
    NoDisk,
    /// There, and where the person says so while no system is installed.
    Ask,
    /// On every machine: disks are not touched.
    Always,
    /// Never.
    Never,
}

/// Where a system goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Onto the disk.
    Install,
    /// Into memory, until the machine is switched off.
    Memory,
}
