//! Part G: services in runlevels.

use std::path::Path;

use crate::build::{Error, inside::Inside, run::Cmd};

/// `grunlevels`
pub(in crate::build) fn runlevels(inside: &mut Inside<'_>) -> Result<(), Error> {
    for change in &inside.system.runlevels {
        let (service, runlevel) = (change.service.as_str(), change.runlevel.as_str());
        let is_in =
            Path::new("/etc/runlevels").join(runlevel).join(service).symlink_metadata().is_ok();
        if is_in == change.add {
            inside.note(&format!(
                "{service} is {} {runlevel} already",
                if is_in { "in" } else { "not in" }
            ));
            continue;
        }
        let verb = if change.add { "add" } else { "del" };
        let items = [format!("{service} {verb} {runlevel}")];
        inside.run(&Cmd::new("rc-update").args([verb, service, runlevel]), &items)?;
    }
    Ok(())
}
