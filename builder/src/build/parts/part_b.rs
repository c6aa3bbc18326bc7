//! Part B: what programs inside need of this machine, and what the configuration injects.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::build::{
    Error, config_lists::Tool, config_tree::System, inside::Inside, mounts::INSIDE, run::Cmd,
};

/// The addresses of name servers, where they are on this machine and shown inside.
const RESOLV: &str = "/etc/resolv.conf";

/// What is shown inside, and under which names.
pub(in crate::build) fn shown(system: &System, downloads: &Path) -> Vec<(PathBuf, String)> {
    let mut shown = vec![(downloads.to_owned(), "downloads".to_owned())];
    // Behind the link that it often is.
    if let Ok(resolv) = Path::new(RESOLV).canonicalize() {
        shown.push((resolv, "resolv.conf".to_owned()));
    }
    for (number, inject) in system.inject.iter().enumerate() {
        shown.push((system.folder.join(&inject.local), format!("inject/{number}")));
    }
    shown
}

/// `gpartb`
pub(in crate::build) fn prepare(inside: &mut Inside<'_>) -> Result<(), Error> {
    let resolv = Path::new("/").join(INSIDE).join("resolv.conf");
    if resolv.exists() {
        inside.note("name servers: those of this machine");
        inside.loops.work("copy /etc/resolv.conf", &[], || {
            let text = fs::read(&resolv)?;
            // Where it is a link to what a service writes, that service does not run here.
            match fs::remove_file(RESOLV) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::write(RESOLV, text)
        })?;
    }
    for (number, inject) in inside.system.inject.iter().enumerate() {
        let source = Path::new("/").join(INSIDE).join("inject").join(number.to_string());
        let target = Path::new("/").join(&inject.target);
        let items = [format!("{} to {}", inject.local.display(), target.display())];
        if let Some(parent) = target.parent() {
            let make = Cmd::new("mkdir").arg("--parents").path(parent);
            inside.run(&make, &items)?;
        }
        inside.run(&copy(inject.tool, &source, &target), &items)?;
    }
    Ok(())
}

/// A folder's content goes into the target, however often it is copied.
fn copy(tool: Tool, source: &Path, target: &Path) -> Cmd {
    let cmd = match tool {
        Tool::Rsync => Cmd::new("rsync").arg("--archive"),
        Tool::Cp => Cmd::new("cp").args(["--archive", "--no-target-directory"]),
    };
    if source.is_dir() { cmd.path(source.join(".")) } else { cmd.path(source) }.path(target)
}
