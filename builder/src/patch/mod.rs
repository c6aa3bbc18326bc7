//! Binary patches from older images, and what differs between two images.
//!
//! A patch file holds everything that the newer image has and the older one has not: as patches of files of the
//! older one where that helps, and as it is where not. So a machine that has the older image needs
//! nothing else, and reads it from its start to its end. See [`gse_protocol::patch`] for the format.

mod base;
mod compare;
mod delta;
mod image;
mod pack;
mod sketch;
mod units;

/// Of zstd, for patch files: they are made once, and fetched by every machine.
pub const LEVEL: i32 = 19;

pub use compare::{Amount, Change, Comparison, Difference, compare};
pub use image::{Image, ImageError};
pub use pack::{PackError, pack};
