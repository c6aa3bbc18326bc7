//! The controller: `/init` of a lab machine.
//!
//! Section 2 of the design names the phases, and each has a file or folder here. Decisions are pure
//! ([`decide`]); what was probed comes in as [`facts`], what is to be done goes out as steps.

pub mod boot;
pub mod boot_log;
pub mod booted;
pub mod bootfs;
pub mod clock;
pub mod cmdline;
pub mod config;
pub mod configure;
pub mod console;
pub mod copy;
pub mod decide;
pub mod dice;
pub mod disk;
pub mod dracut;
pub mod drivers;
pub mod efi;
pub mod facts;
pub mod fetch;
pub mod files;
pub mod handover;
pub mod inside;
pub mod install;
mod kept;
pub mod last_servers;
pub mod log;
pub mod mount;
pub mod mounts;
pub mod network;
pub mod report;
pub mod rescue;
pub mod services;
pub mod shutdown;
pub mod startup;
pub mod supervisor;
pub mod switch_root;
pub mod sys;
pub mod watchdog;
