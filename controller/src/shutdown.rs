//! The last act of a system with systemd, which ends by starting `/run/initramfs/shutdown` in the place of
//! everything else, with the old root below `/oldroot`: <https://systemd.io/INITRD_INTERFACE/>.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::sys::reboot::RebootMode;

use crate::{
    log::{Log, reason},
    mount::{self, UnmountFlags},
    report::{self, Place},
    supervisor,
};

/// The name under which systemd starts it.
pub const NAME: &str = "shutdown";
const OLD_ROOT: &str = "/oldroot";

/// Says that the system is closed, lets go of its disks, and ends the machine's life as systemd was asked to:
/// `poweroff`, `reboot`, `halt` or `kexec`.
pub fn run(verb: &str) -> ! {
    let log = Log::new(false);
    let place = Place { info: PathBuf::from("/"), root: PathBuf::from(OLD_ROOT) };
    match report::close(&place, &log) {
        Ok(()) => log.info("this system is closed"),
        Err(e) => log.warn(format_args!("this system is not closed: {}", reason(&e))),
    }
    for point in mount::mount_points().iter().rev().filter(|point| point.starts_with(OLD_ROOT)) {
        if let Err(e) = mount::unmount(point, UnmountFlags::empty()) {
            // It is read-only already: systemd has seen to that.
            log.debug(e);
        }
    }
    let _ = std::io::stdout().flush();
    supervisor::end(mode(verb))
}

/// Whether this program was started as `/shutdown`.
pub fn is_asked(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == NAME)
}

fn mode(verb: &str) -> RebootMode {
    match verb {
        "poweroff" => RebootMode::RB_POWER_OFF,
        "halt" => RebootMode::RB_HALT_SYSTEM,
        "kexec" => RebootMode::RB_KEXEC,
        _ => RebootMode::RB_AUTOBOOT,
    }
}
