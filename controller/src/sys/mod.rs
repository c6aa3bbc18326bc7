//! The only module with `unsafe`: ioctls and system calls that no safe library offers.
#![allow(unsafe_code)]

pub mod block;
pub mod btrfs;
pub mod kmod;
pub mod net;
#[cfg(panic = "abort")]
mod unwind;
pub mod watchdog;
