//! The builder: everything that `gse` does on the server.

pub mod archive;
pub mod build;
pub mod cli;
pub mod commands;
pub mod config_d;
pub mod editor;
pub mod file_error;
pub mod initramfs;
pub mod installation;
pub mod keys;
pub mod lock;
pub mod menu;
pub mod password;
pub mod patch;
pub mod progress;
pub mod publish;
pub mod releases;
pub mod secrets;
pub mod serve;
pub mod states;
pub mod verify;
mod workers;
