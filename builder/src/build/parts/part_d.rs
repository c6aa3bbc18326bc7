//! Part D: every package of @system, compiled here.

use crate::build::{Error, inside::Inside, merges};

/// `grebuild`
pub(in crate::build) fn rebuild(inside: &mut Inside<'_>) -> Result<(), Error> {
    inside.emerge(["--oneshot", "--emptytree", "@system"])?;
    merges::settle(inside)
}
