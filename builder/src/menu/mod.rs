//! The main menu: `gse`, `gse -mm`.
//!
//! What there is to choose is data ([`entries`]). Keys change a [`model::Model`] by a pure function, which answers with an effect;
//! [`view`] draws the model, and [`screen`] has the terminal and does the effects. Everything that the menu does is a command
//! line of gse, which it shows.

mod categories;
mod command;
pub mod entries;
pub mod job;
mod lists;
pub mod model;
mod place;
mod screen;
pub mod view;

pub use command::command;
