//! What a GSE server and a lab machine say to each other.
//!
//! Everything here is pure: bytes in, types out. There are no devices and no sockets, so the same
//! code checks a file on the server and on the machine, and all of it can be fuzzed.
//!
//! Each signed file is opened by a function that takes the bytes, the text of its `.minisig` and the
//! trusted [`sign::Keys`]; nothing is parsed before the signature over it has been checked.

pub mod config;
pub mod delta;
pub mod digest;
pub mod index;
pub mod patch;
pub mod release;
pub mod sign;

pub use digest::Sha256;
pub use index::Index;
pub use release::{Release, Serial};
