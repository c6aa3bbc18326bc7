//! `gse --base`, with the real Portage and OpenRC, `gpg`, `tar`, and mirrors on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod catalyst;
mod failures;
mod helpers;
mod kernels;
mod killed;
mod mirrors;
mod profile;
mod refused;
mod steps;
mod support;
mod whole;
