//! What the end-to-end tests share: the virtual lab, a system that boots in a second, a look at disks from
//! outside, and the comparison of trees.

pub mod cuts;
pub mod disk;
pub mod image;
pub mod lab;
pub mod liar;
pub mod mirror;
pub mod netns;
pub mod nfs;
pub mod room_cache;
pub mod scenario;
pub mod small;
pub mod tree;
