//! The controller's initramfs: what is in it, what is refused, and the default configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod configuration;
mod contents;
mod dracut;
mod lab;
mod refusals;
