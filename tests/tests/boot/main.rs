//! Whole machines: the real server, the real controller, a stock kernel in QEMU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod built;
mod configure;
mod debian;
mod destroyed;
mod disks;
mod dracut;
mod fallback;
mod hardware;
mod health;
mod kernels;
mod memory;
mod mounts;
mod network;
mod refused;
mod rescue;
mod servers;
mod systemd;
mod term;
mod update;
