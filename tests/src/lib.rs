//! What several crates' tests share.

pub mod tree;
