//! The builder: everything that `gse` does on the server.

pub mod archive;
pub mod build;
pub mod cli;
pub mod commands;
pub mod initramfs;
pub mod keys;
pub mod lock;
pub mod password;
pub mod patch;
pub mod progress;
pub mod publish;
pub mod secrets;
pub mod serve;
pub mod verify;
