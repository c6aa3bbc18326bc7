//! What the tests of installing and fetching share.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod disk;
pub mod pack;
pub mod server;
pub mod system;
pub mod tree;
