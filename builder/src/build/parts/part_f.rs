//! Part F: essential packages, and those of the list.

use crate::build::{Error, inside::Inside, merges};

/// `ginstall`
pub(in crate::build) fn install(inside: &mut Inside<'_>) -> Result<(), Error> {
    let system = inside.system;
    let listed = if inside.options.minimal { &[][..] } else { &system.packages };
    let essential = &system.build.packages.essential;
    let atoms: Vec<&str> = essential.iter().chain(listed).map(String::as_str).collect();
    if atoms.is_empty() {
        inside.note("no packages are asked for");
        return Ok(());
    }
    inside.emerge(["--noreplace", "--update", "--newuse"].into_iter().chain(atoms))?;
    merges::settle(inside)
}
