//! Hardware watchdogs: <https://docs.kernel.org/watchdog/watchdog-api.html>.

use std::{
    ffi::c_int,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd as _},
};

use nix::errno::Errno;
use rustix::fs::{Mode, OFlags, openat};

/// `struct watchdog_info` of `linux/watchdog.h`.
#[repr(C)]
#[derive(Default)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// `WDIOS_DISABLECARD` of `linux/watchdog.h`.
const DISABLE: c_int = 1;

/// What a driver that stops on close wants to read before it: the "magic close".
const MAGIC: &[u8] = b"V";

mod ioctl {
    use super::Info;
    use std::ffi::c_int;

    // Numbers: linux/watchdog.h.
    nix::ioctl_read!(support, b'W', 0, Info);
    nix::ioctl_read!(set_options, b'W', 4, c_int);
    nix::ioctl_read!(keep_alive, b'W', 5, c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, c_int);
    nix::ioctl_read!(timeout, b'W', 7, c_int);
}

/// A watchdog that runs: it resets the machine unless it is fed. Dropping it does not stop it.
#[derive(Debug)]
pub struct Watchdog(File);

impl Watchdog {
    /// Starts the watchdog `name` in the directory `dev`. No process that this one starts has it open.
    ///
    /// # Errors
    /// `ENOENT` where there is none, `EBUSY` if another program has it.
    pub fn start(dev: impl AsFd, name: &str) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(Self(File::from(openat(dev, name, flags, Mode::empty())?)))
    }

    /// What the driver calls it.
    ///
    /// # Errors
    /// `ENOTTY` for what is no watchdog.
    pub fn identity(&self) -> io::Result<String> {
        let mut info = Info::default();
        // SAFETY: `info` has the kernel's layout and outlives the call.
        unsafe { ioctl::support(self.0.as_fd().as_raw_fd(), &raw mut info) }?;
        let name = info.identity.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// Asks for this many seconds without food until it acts.
    ///
    /// # Errors
    /// `EINVAL` or `EOPNOTSUPP` where it has a time of its own.
    pub fn set_timeout(&self, seconds: u32) -> io::Result<()> {
        let mut seconds = c_int::try_from(seconds).unwrap_or(c_int::MAX);
        // SAFETY: the kernel reads and writes one int, which outlives the call.
        unsafe { ioctl::set_timeout(self.0.as_raw_fd(), &raw mut seconds) }?;
        Ok(())
    }

    /// After how many seconds without food it acts.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the driver does not know.
    pub fn timeout(&self) -> io::Result<u32> {
        let mut seconds = 0;
        // SAFETY: the kernel writes one int, which outlives the call.
        unsafe { ioctl::timeout(self.0.as_raw_fd(), &raw mut seconds) }?;
        Ok(u32::try_from(seconds).unwrap_or_default())
    }

    /// Shows that this program is alive.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn feed(&self) -> io::Result<()> {
        let mut unused = 0;
        // SAFETY: the kernel takes no argument, whatever the number's direction says.
        unsafe { ioctl::keep_alive(self.0.as_raw_fd(), &raw mut unused) }?;
        Ok(())
    }

    /// Stops it. One that cannot be stopped is given back, and goes on.
    ///
    /// # Errors
    /// The watchdog, if its driver was told `nowayout`.
    pub fn stop(mut self) -> Result<(), Self> {
        let mut options = DISABLE;
        // SAFETY: the kernel reads one int, which outlives the call.
        match unsafe { ioctl::set_options(self.0.as_raw_fd(), &raw mut options) } {
            Err(Errno::EBUSY) => Err(self),
            // A driver that does not know the ioctl stops when the descriptor is closed.
            _ => self.0.write_all(MAGIC).map_err(|_| self),
        }
    }
}
