//! Part J: what only the build needed.

use crate::build::{Error, inside::Inside, run::Cmd};

/// `gpartj`: what still needs libraries of versions before is compiled for the new ones, so that the old ones can go. The build's own tools were never selected, so that they go with what nothing requires any more.
pub(in crate::build) fn depclean(inside: &mut Inside<'_>) -> Result<(), Error> {
    inside.emerge(["--oneshot", "@preserved-rebuild"])?;
    let depclean = Cmd::new("emerge").args(["--ask=n", "--depclean", "--with-bdeps=n"]);
    // It waits five seconds for somebody who changes their mind.
    inside.run(&depclean.env("CLEAN_DELAY", "0"), &[])
}
