//! Disks, filesystems and slots, on loop devices with real tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod filesystems;
mod kernels;
mod partitions;
mod planning;
mod several;
mod slots;
mod subvolumes;
mod tables;
