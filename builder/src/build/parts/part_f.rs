//! Part F: essential packages, and those of the list.

use crate::build::{Error, inside::Inside};

/// `ginstall`
pub(in crate::build) fn install(inside: &mut Inside<'_>) -> Result<(), Error> {
    let system = inside.system;
    let atoms: Vec<&str> = system
        .build
        .packages
        .essential
        .iter()
        .chain(&system.packages)
        .map(String::as_str)
        .collect();
    if atoms.is_empty() {
        inside.note("no packages are asked for");
        return Ok(());
    }
    inside.emerge(["--noreplace", "--update", "--newuse"].into_iter().chain(atoms))
}
