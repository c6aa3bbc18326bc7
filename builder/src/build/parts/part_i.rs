//! Part I: the initramfs that `--initrd` gives.
//!
//! That of a distribution kernel comes with its package, and that of the controller is no part of a system: machines get it
//! beside the kernel, from `gse --build-controller`.

use super::part_h::boot;
use crate::build::{Error, inside::Inside};

/// Under which the initramfs is shown inside.
pub(in crate::build) const SHOWN: &str = "initrd";

/// `ginitrd`
pub(in crate::build) fn initrd(inside: &mut Inside<'_>) -> Result<(), Error> {
    match inside.options.initrd.as_deref() {
        Some(image) => boot(inside, SHOWN, image),
        None => Ok(()),
    }
}
