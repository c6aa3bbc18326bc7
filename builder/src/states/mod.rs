//! Time warp: a run with its flags and every file that it read, kept to be run again.
//!
//! A state is a folder of `local/states`: `state.toml`, and copies of the configuration and of the scripts. The run that saves a
//! state is itself the first run of it, from the copies; so a later one differs in nothing but what the tools do with time.

mod arguments;
mod command;
mod error;
mod flags;
mod format;
mod save;
mod store;
mod warp;

pub use arguments::{Inputs, rewritten};
pub use command::command;
pub use error::Error;
pub use flags::{Flags, Wish};
pub use format::{Saved, State};
pub use save::{Run, save};
pub use store::States;
