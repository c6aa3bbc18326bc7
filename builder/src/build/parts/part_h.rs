//! Part H: the kernel, ready, as a package, or from sources by genkernel.

use std::{ffi::OsStr, path::Path};

use crate::build::{
    Error, config::KernelBy, config_names::KERNEL_CONFIG, inside::Inside, mounts::INSIDE, run::Cmd,
};

/// Under which the kernel of `--kernel` is shown inside.
pub(in crate::build) const SHOWN: &str = "kernel";

/// `gkernel`
pub(in crate::build) fn kernel(inside: &mut Inside<'_>) -> Result<(), Error> {
    if let Some(image) = inside.options.kernel.as_deref() {
        return boot(inside, SHOWN, image);
    }
    let kernel = &inside.system.build.kernel;
    let Some(package) = &kernel.package else { return Ok(()) };
    match kernel.by {
        KernelBy::Package => inside.emerge(["--noreplace", "--update", package]),
        KernelBy::Genkernel => compile(inside, package),
    }
}

/// Sources and genkernel are not selected, so that part J removes them.
fn compile(inside: &mut Inside<'_>, sources: &str) -> Result<(), Error> {
    inside.emerge(["--oneshot", "--update", sources, "sys-kernel/genkernel"])?;
    let items = [format!("sources of {sources}")];
    inside.run(&Cmd::new("eselect").args(["kernel", "set", "1"]), &items)?;
    let mut cmd = genkernel();
    if inside.system.files.contains_key(KERNEL_CONFIG) {
        cmd = cmd.arg(format!("--kernel-config=/{KERNEL_CONFIG}"));
    }
    inside.run(&cmd.arg("kernel"), &items)
}

/// genkernel, which asks nothing and leaves alone what is not in the new system.
pub(super) fn genkernel() -> Cmd {
    let quiet = ["--no-color", "--no-menuconfig", "--no-mountboot", "--no-bootloader"];
    Cmd::new("genkernel").args(quiet)
}

/// Puts a file of this machine's, which is shown inside, into `/boot` under its own name.
pub(super) fn boot(inside: &mut Inside<'_>, shown: &str, image: &Path) -> Result<(), Error> {
    let source = Path::new("/").join(INSIDE).join(shown);
    let target = Path::new("/boot").join(image.file_name().unwrap_or(OsStr::new(shown)));
    let items = [format!("{} to {}", image.display(), target.display())];
    inside.run(&Cmd::new("mkdir").args(["--parents", "/boot"]), &items)?;
    inside.run(&Cmd::new("cp").path(&source).path(&target), &items)
}
