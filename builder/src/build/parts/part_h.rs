//! Part H: the kernel, ready or as a package.

use std::{ffi::OsStr, path::Path};

use crate::build::{Error, inside::Inside, mounts::INSIDE, run::Cmd};

/// Under which the kernel of `--kernel` is shown inside.
pub(in crate::build) const SHOWN: &str = "kernel";

/// `gkernel`
pub(in crate::build) fn kernel(inside: &mut Inside<'_>) -> Result<(), Error> {
    if let Some(image) = inside.options.kernel.as_deref() {
        return boot(inside, SHOWN, image);
    }
    match &inside.system.build.kernel.package {
        Some(package) => inside.emerge(["--noreplace", "--update", package]),
        None => Ok(()),
    }
}

/// Puts a file of this machine's, which is shown inside, into `/boot` under its own name.
pub(super) fn boot(inside: &mut Inside<'_>, shown: &str, image: &Path) -> Result<(), Error> {
    let source = Path::new("/").join(INSIDE).join(shown);
    let target = Path::new("/boot").join(image.file_name().unwrap_or(OsStr::new(shown)));
    let items = [format!("{} to {}", image.display(), target.display())];
    inside.run(&Cmd::new("mkdir").args(["--parents", "/boot"]), &items)?;
    inside.run(&Cmd::new("cp").path(&source).path(&target), &items)
}
