//! What a machine is made of.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    device::{Bus, Disk, Model, Nic},
    error::Result,
};

/// The environment variable that names another accelerator, such as `kvm`. A machine whose writes are recorded is not
/// emulated in another way for it.
pub const ACCEL: &str = "GSE_QEMU_ACCEL";

/// KVM is not looked for: there are hosts where `/dev/kvm` opens and the machine then hangs.
const DEFAULT_ACCEL: &str = "tcg,thread=multi";

/// With emulation, a processor that has less is quicker: every feature is one more that the kernel tests, or a wide
/// instruction that is emulated word by word. Seconds to `/init` of Debian's 6.1 cloud kernel, 2 processors,
/// an initramfs of 1 MB, on a host with half of its 4 processors busy:
///
/// | `-machine` | `-cpu` | kernel options | to `/init` |
/// |---|---|---|---|
/// | q35 | max | | 3.0 |
/// | q35 | qemu64 | | 2.7 |
/// | pc | Nehalem | | 2.7 |
/// | q35 | Nehalem | | 2.5 |
/// | q35 | Nehalem | cryptomgr.notests | 2.05 |
/// | q35 | Nehalem | cryptomgr.notests mitigations=off no_timer_check tsc=reliable | 1.7 |
/// | microvm (no PCI) | qemu64 | | 2.2 |
///
/// rdrand, because without it the random numbers that TLS wants are late.
const TCG_CPU: &str = "Nehalem,+rdrand";

/// The last row of the table, and what makes a serial console readable: the kernel's notices are
/// shown, but not its informational messages, among which what the controller prints would appear again.
pub const APPEND: &str = "console=ttyS0 panic=-1 loglevel=6 cryptomgr.notests mitigations=off \
                      no_timer_check tsc=reliable";

/// How many PCI slots a machine has for what is plugged in later.
pub(crate) const HOT_SLOTS: usize = 4;

/// What a machine is made of. [`Spec::start`] switches it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Firmware that starts whatever the first disk has, instead of the kernel that is given here.
    pub firmware: Option<PathBuf>,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// Words of the kernel command line, beside those that every machine has.
    pub append: Vec<String>,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// Disks, in the order in which the machine finds them.
    pub disks: Vec<Disk>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Whether something is going to be plugged in while it runs.
    pub hot_plug: bool,
    /// Whether it has a hardware watchdog: Linux driver i6300esb (not in Debian's cloud kernel).
    pub watchdog: bool,
    /// Whether it goes on after a reboot; without this, a reboot ends it.
    pub reboots: bool,
    /// What its clock says at power on, such as `1970-01-01T00:00:00`; the time without it.
    pub clock: Option<String>,
}

impl Spec {
    /// A machine with 1 GiB and 2 processors that has no disk and no network card.
    pub fn new(kernel: impl Into<PathBuf>, initrd: impl Into<PathBuf>) -> Self {
        Self {
            firmware: None,
            kernel: kernel.into(),
            initrd: initrd.into(),
            append: Vec::new(),
            memory: 1024,
            cpus: 2,
            disks: Vec::new(),
            nics: Vec::new(),
            hot_plug: false,
            watchdog: false,
            reboots: false,
            clock: None,
        }
    }

    /// The same machine with further words on its kernel command line.
    #[must_use]
    pub fn append(mut self, words: &str) -> Self {
        self.append.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// The same machine, started by firmware from its first disk. What it shows is that of a boot loader's entry with
    /// [`APPEND`] on its command line.
    #[must_use]
    pub fn firmware(self, file: impl Into<PathBuf>) -> Self {
        Self { firmware: Some(file.into()), ..self }
    }

    /// The same machine with this much memory.
    #[must_use]
    pub fn memory(self, mib: u32) -> Self {
        Self { memory: mib, ..self }
    }

    /// The same machine with this many processors.
    #[must_use]
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// The same machine with one more disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// The same machine with one more network card.
    #[must_use]
    pub fn nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// The same machine, with places for what is plugged in while it runs.
    #[must_use]
    pub fn hot_plug(self) -> Self {
        Self { hot_plug: true, ..self }
    }

    /// The same machine with a hardware watchdog, which resets it.
    #[must_use]
    pub fn watchdog(self) -> Self {
        Self { watchdog: true, ..self }
    }

    /// The same machine, which goes on after a reboot.
    #[must_use]
    pub fn reboots(self) -> Self {
        Self { reboots: true, ..self }
    }

    /// The same machine with a clock that is wrong: `1970-01-01T00:00:00` is an empty battery.
    #[must_use]
    pub fn clock(self, time: impl Into<String>) -> Self {
        Self { clock: Some(time.into()), ..self }
    }

    /// QEMU's arguments. The console is on standard input and output; the monitor connects to `monitor`.
    pub(crate) fn arguments(&self, monitor: &Path, accel: Option<&str>) -> Result<Vec<OsString>> {
        let mut out = Arguments(Vec::new());
        // Where writes are recorded, their order is what counts: the processors are as independent as can be.
        let records = self.disks.iter().any(|disk| disk.write_log.is_some());
        let accel = accel.filter(|accel| !(records && accel.starts_with("tcg")));
        let accel = accel.unwrap_or(DEFAULT_ACCEL);
        out.add("-nodefaults", "");
        out.add("-display", "none");
        out.add("-machine", "q35");
        out.add("-accel", accel);
        out.add("-cpu", if accel.starts_with("tcg") { TCG_CPU } else { "max" });
        out.add("-m", self.memory.to_string());
        out.add("-smp", self.cpus.to_string());
        if let Some(firmware) = &self.firmware {
            out.add("-bios", firmware);
        } else {
            out.add("-kernel", &self.kernel);
            out.add("-initrd", &self.initrd);
            let words = std::iter::once(APPEND).chain(self.append.iter().map(String::as_str));
            out.add("-append", words.collect::<Vec<_>>().join(" "));
        }
        out.add("-action", if self.reboots { "reboot=reset" } else { "reboot=shutdown" });
        if self.watchdog {
            out.add("-device", json!({ "driver": "i6300esb" }).to_string());
            // The chipset has one too, which would never reset anything by default.
            out.add("-global", "ICH9-LPC.noreboot=off");
            out.add("-action", "watchdog=reset");
        }
        if let Some(time) = &self.clock {
            out.add("-rtc", format!("base={time}"));
        }
        out.add("-serial", "stdio");
        // In QEMU's own option syntax a comma in a value is written twice.
        let monitor = monitor.display().to_string().replace(',', ",,");
        out.add("-chardev", format!("socket,id=monitor,path={monitor}"));
        out.add("-mon", "chardev=monitor,mode=control");
        let usb = self.disks.iter().any(|d| d.bus == Bus::Usb)
            || self.nics.iter().any(|n| n.model == Model::Usb);
        if usb || self.hot_plug {
            out.add("-device", json!({ "driver": "qemu-xhci", "id": "usb" }).to_string());
        }
        if self.hot_plug {
            for slot in 0..HOT_SLOTS {
                let id = slot_name(slot);
                let port = json!({ "driver": "pcie-root-port", "id": id, "chassis": slot + 1 });
                out.add("-device", port.to_string());
            }
        }
        for (nth, disk) in self.disks.iter().enumerate() {
            let id = format!("disk{nth}");
            out.add("-blockdev", disk.blockdev(&id)?.to_string());
            out.add("-device", disk.device(&id, None).to_string());
        }
        for (nth, nic) in self.nics.iter().enumerate() {
            let id = format!("nic{nth}");
            out.add("-netdev", nic.netdev(&id).to_string());
            out.add("-device", nic.device(&id, None).to_string());
        }
        Ok(out.0)
    }
}

/// The name of a PCI slot for what is plugged in later.
pub(crate) fn slot_name(nth: usize) -> String {
    format!("slot{nth}")
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        let value = value.into();
        if !value.is_empty() {
            self.0.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn line(spec: &Spec, accel: Option<&str>) -> String {
        let words = spec.arguments(Path::new("/tmp/a,b/qmp"), accel).unwrap();
        words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_machine_is_emulated_unless_another_accelerator_is_named() {
        let spec = Spec::new("vmlinuz", "init.img");
        assert!(line(&spec, None).contains("-accel tcg,thread=multi -cpu Nehalem"));
        assert!(line(&spec, Some("kvm")).contains("-accel kvm -cpu max"));
    }

    #[test]
    fn a_machine_whose_writes_are_recorded_has_a_thread_for_each_processor() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let plain = Spec::new("k", "i").disk(Disk::new("d"));
        let recorded = Spec::new("k", "i").disk(Disk::new("d").write_log(log));
        let single = "tcg,thread=single";
        assert!(line(&plain, Some(single)).contains(single));
        assert!(line(&recorded, Some(single)).contains("tcg,thread=multi"));
        assert!(line(&recorded, Some("kvm")).contains("-accel kvm"));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_an_option() {
        assert!(line(&Spec::new("k", "i"), None).contains("path=/tmp/a,,b/qmp"));
    }

    #[test]
    fn usb_needs_a_controller_and_hot_plug_needs_slots() {
        let spec = Spec::new("k", "i").disk(Disk::new("d"));
        assert!(!line(&spec, None).contains("qemu-xhci"));
        assert!(line(&spec.clone().disk(Disk::new("u").bus(Bus::Usb)), None).contains("qemu-xhci"));
        let hot = line(&spec.hot_plug(), None);
        assert!(hot.contains("qemu-xhci") && hot.matches("pcie-root-port").count() == HOT_SLOTS);
    }

    #[test]
    fn words_are_added_to_the_kernel_command_line() {
        let text = line(&Spec::new("k", "i").append("ip=dhcp gse.debug"), None);
        assert!(text.contains("tsc=reliable ip=dhcp gse.debug"), "{text}");
    }

    #[test]
    fn a_watchdog_resets_the_machine_that_has_one() {
        let spec = Spec::new("k", "i");
        assert!(!line(&spec, None).contains("watchdog"));
        let text = line(&spec.watchdog(), None);
        assert!(text.contains("i6300esb") && text.contains("-action watchdog=reset"), "{text}");
    }
}
