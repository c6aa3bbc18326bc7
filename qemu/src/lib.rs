//! The virtual lab: machines, disks and consoles under QEMU.
//!
//! A [`Spec`] says what a machine is made of; [`Spec::start`] switches it on and gives a [`Machine`], whose
//! [`Console`] keeps everything that it prints. Whatever is waited for has a bound, and what is dropped,
//! interrupted or killed leaves no process behind.

pub mod console;
pub mod device;
pub mod error;
pub mod fixtures;
pub mod lab;
pub mod machine;
pub mod process;
pub mod qmp;
pub mod replay;
pub mod server;
pub mod spec;
pub mod timeline;
pub mod writes;

pub use console::{Console, Line};
pub use device::{Bus, Disk, Model, Nic};
pub use error::{Error, Result};
pub use lab::{Filesystem, Lab};
pub use machine::{Exit, Machine, Plugged};
pub use server::Server;
pub use spec::Spec;
pub use timeline::Timeline;
