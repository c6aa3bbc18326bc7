//! What is published: list, compare, choose, withdraw, clear away.
//!
//! Nothing here changes an image. Another default is a new release with a higher serial that points at an older image, so that
//! machines take it like any other; its index is signed once more with that serial, beside the first one.

mod command;
mod content;
mod diff;
mod error;
mod flags;
mod packages;
mod point;
mod prune;
mod store;

pub use command::command;
pub use diff::{Difference, diff};
pub use error::Error;
pub use flags::Flags;
pub use packages::{Change, Package, compare, packages};
pub use point::{Chosen, choose, withdraw};
pub use prune::{Surplus, prune, surplus};
pub use store::{Published, Standing, Store};
