//! Part I: the initramfs: ready, or that of the controller, of dracut or of genkernel.

use std::path::Path;

use super::part_h::{boot, genkernel};
use crate::{
    build::{
        Error, Options, config::InitramfsBy, inside::Inside, kernel_files::KernelFiles, run::Cmd,
    },
    initramfs::{self, Local, Output},
    publish,
};

/// Under which the initramfs is shown inside.
pub(in crate::build) const SHOWN: &str = "initrd";

/// `ginitrd`, inside.
pub(in crate::build) fn initrd(inside: &mut Inside<'_>) -> Result<(), Error> {
    if let Some(image) = inside.options.initrd.as_deref() {
        return boot(inside, SHOWN, image);
    }
    let kernel = KernelFiles::find(Path::new("/"))?;
    let items = [format!("kernel {}", kernel.release)];
    match inside.system.build.initramfs.by {
        Some(InitramfsBy::Dracut) => {
            inside.emerge(["--oneshot", "--noreplace", "sys-kernel/dracut"])?;
            // For any machine: the one that builds says nothing about those that start it.
            let dracut = Cmd::new("dracut").args(["--force", "--no-hostonly", "--kver"]);
            let dracut = dracut.args([&kernel.release, &format!("/{}", kernel.initramfs())]);
            inside.run(&dracut, &items)
        }
        Some(InitramfsBy::Genkernel) => {
            inside.emerge(["--oneshot", "--noreplace", "sys-kernel/genkernel"])?;
            inside.run(&genkernel().arg("initramfs"), &items)
        }
        Some(InitramfsBy::Controller) | None => Ok(()),
    }
}

/// Whether [`controller`] can do its work, as far as that is known before there is a kernel.
pub(in crate::build) fn check_controller(options: &Options) -> Result<(), Error> {
    publish::check(&options.config)?;
    let path = initramfs::find_controller(options.controller.as_deref())?;
    if path.is_file() { Ok(()) } else { Err(initramfs::Error::NoController { path }.into()) }
}

/// `ginitrd`, outside: what is in the controller's image is of this machine, and of the configuration of the controller.
pub(in crate::build) fn controller(options: &Options, tree: &Path) -> Result<String, Error> {
    let kernel = KernelFiles::find(tree)?;
    let report = initramfs::build(&initramfs::Options {
        output: Output::File(tree.join(kernel.initramfs())),
        modules: Some(kernel.modules),
        config: Some(options.config.clone()),
        controller: initramfs::find_controller(options.controller.as_deref())?,
        tools: initramfs::find_tools()?,
        drivers: Vec::new(),
        local: Local::default(),
        force: true,
        time: u32::try_from(options.now).unwrap_or(u32::MAX),
    })?;
    Ok(report.to_string())
}
