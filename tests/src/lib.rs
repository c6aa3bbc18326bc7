//! What the end-to-end tests share: the virtual lab, and the comparison of trees.

pub mod lab;
pub mod tree;
