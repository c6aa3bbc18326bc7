//! Disks and network cards: what QEMU is told about them, at power on and when they are plugged in later.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::error::{Doing, Error, Result};

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vda`; Linux driver virtio_blk.
    Virtio,
    /// `/dev/nvme0n1`; Linux driver nvme.
    Nvme,
    /// `/dev/sda`; Linux driver ahci. Has 512-byte sectors only.
    Ahci,
    /// `/dev/sda`; Linux drivers xhci_pci and usb_storage (not in Debian's cloud kernel).
    Usb,
}

/// A disk, which is a raw image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub image: PathBuf,
    /// How it is attached.
    pub bus: Bus,
    /// Bytes of a logical sector: 512 or 4096.
    pub sector: u32,
    /// The serial number that the machine sees.
    pub serial: String,
    /// Where to record every write and flush, for [`WriteLog`](crate::writes::WriteLog); a record that is there goes on.
    pub write_log: Option<PathBuf>,
    /// Whether the machine can only read it.
    pub read_only: bool,
}

impl Disk {
    /// A virtio disk with 512-byte sectors.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            bus: Bus::Virtio,
            sector: 512,
            serial: "gse-lab".to_owned(),
            write_log: None,
            read_only: false,
        }
    }

    /// A virtio disk of this many bytes on which nothing was ever written. It takes no space until it is.
    pub fn blank(image: impl Into<PathBuf>, bytes: u64) -> Result<Self> {
        let image = image.into();
        let file = File::create_new(&image).doing(|| format!("creating {}", image.display()))?;
        file.set_len(bytes).doing(|| format!("making {} {bytes} bytes long", image.display()))?;
        Ok(Self::new(image))
    }

    /// The same disk, attached otherwise.
    #[must_use]
    pub fn bus(self, bus: Bus) -> Self {
        Self { bus, ..self }
    }

    /// The same disk with sectors of this many bytes.
    #[must_use]
    pub fn sector(self, sector: u32) -> Self {
        Self { sector, ..self }
    }

    /// The same disk with another serial number.
    #[must_use]
    pub fn serial(self, serial: impl Into<String>) -> Self {
        Self { serial: serial.into(), ..self }
    }

    /// The same disk, with every write recorded.
    #[must_use]
    pub fn write_log(self, log: impl Into<PathBuf>) -> Self {
        Self { write_log: Some(log.into()), ..self }
    }

    /// The same disk, which the machine can only read.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// The drive behind the device `id`, as `-blockdev` and `blockdev-add` take it.
    ///
    /// Flushes are not passed on: power is cut by killing QEMU, which takes nothing from the host's page cache.
    pub(crate) fn blockdev(&self, id: &str) -> Result<Value> {
        if !matches!(self.sector, 512 | 4096) || (self.bus == Bus::Ahci && self.sector != 512) {
            let message =
                format!("a disk on {:?} cannot have sectors of {} bytes", self.bus, self.sector);
            return Err(Error::Impossible(message));
        }
        let file = |path: &Path, write: bool| {
            json!({
                "driver": "file", "filename": path, "read-only": !write,
                "discard": "unmap", "cache": { "no-flush": true },
            })
        };
        let write = !self.read_only;
        let raw = json!({ "driver": "raw", "file": file(&self.image, write), "read-only": !write });
        let mut drive = match &self.write_log {
            None => raw,
            Some(log) => {
                let mut drive =
                    json!({ "driver": "blklogwrites", "file": raw, "log": file(log, true) });
                // QEMU opens it only if it is there.
                let doing = || format!("creating the write log {}", log.display());
                let there = File::options().create(true).append(true).open(log).doing(doing)?;
                // The one setting excludes the other.
                match there.metadata().doing(doing)?.len() {
                    0 => set(&mut drive, "log-sector-size", Some(self.sector)),
                    _ => set(&mut drive, "log-append", Some(true)),
                }
                drive
            }
        };
        if let Some(drive) = drive.as_object_mut() {
            drive.insert("node-name".to_owned(), json!(drive_of(id)));
            drive.insert("discard".to_owned(), json!("unmap"));
        }
        Ok(drive)
    }

    /// The device, as `-device` and `device_add` take it; on PCI it goes into `slot` where one is given.
    pub(crate) fn device(&self, id: &str, slot: Option<&str>) -> Value {
        let driver = match self.bus {
            Bus::Virtio => "virtio-blk-pci",
            Bus::Nvme => "nvme",
            Bus::Ahci => "ide-hd",
            Bus::Usb => "usb-storage",
        };
        let mut device =
            json!({ "driver": driver, "id": id, "drive": drive_of(id), "serial": self.serial });
        let slot = slot.filter(|_| self.is_pci());
        let sizes = (self.bus != Bus::Ahci).then_some(self.sector);
        set(&mut device, "bus", slot);
        set(&mut device, "logical_block_size", sizes);
        set(&mut device, "physical_block_size", sizes);
        device
    }

    pub(crate) fn is_pci(&self) -> bool {
        matches!(self.bus, Bus::Virtio | Bus::Nvme)
    }
}

/// The name of the drive behind the device `id`.
pub(crate) fn drive_of(id: &str) -> String {
    format!("{id}-drive")
}

/// A model of network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Linux driver virtio_net.
    Virtio,
    /// Linux driver e1000 (not in Debian's cloud kernel).
    E1000,
    /// Linux driver cdc_ether or rndis_host (not in Debian's cloud kernel).
    Usb,
}

/// A network card on a network of its own, where a DHCP server gives the machine 10.0.2.15, and 10.0.2.2
/// is the host's loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The model.
    pub model: Model,
    /// The hardware address, in lower case with colons.
    pub mac: String,
    /// Whether the host can be reached. If not, there is a link, and DHCP answers, but no server does.
    pub host: bool,
}

impl Default for Nic {
    fn default() -> Self {
        Self { model: Model::Virtio, mac: "52:54:00:67:73:65".to_owned(), host: true }
    }
}

impl Nic {
    /// The same card as another model.
    #[must_use]
    pub fn model(self, model: Model) -> Self {
        Self { model, ..self }
    }

    /// The same card with another hardware address.
    #[must_use]
    pub fn mac(self, mac: impl Into<String>) -> Self {
        Self { mac: mac.into(), ..self }
    }

    /// The same card on a network from which the host cannot be reached.
    #[must_use]
    pub fn without_host(self) -> Self {
        Self { host: false, ..self }
    }

    /// The network behind the device `id`, as `-netdev` and `netdev_add` take it.
    pub(crate) fn netdev(&self, id: &str) -> Value {
        json!({ "type": "user", "id": net_of(id), "ipv6": false, "restrict": !self.host })
    }

    /// The device, as `-device` and `device_add` take it.
    pub(crate) fn device(&self, id: &str, slot: Option<&str>) -> Value {
        let driver = match self.model {
            Model::Virtio => "virtio-net-pci",
            Model::E1000 => "e1000",
            Model::Usb => "usb-net",
        };
        let mut device =
            json!({ "driver": driver, "id": id, "netdev": net_of(id), "mac": self.mac });
        // Nothing boots from the network here, and loading the boot ROM takes time.
        let pci = self.model != Model::Usb;
        set(&mut device, "romfile", pci.then_some(""));
        set(&mut device, "bus", slot.filter(|_| pci));
        device
    }

    pub(crate) fn is_pci(&self) -> bool {
        self.model != Model::Usb
    }
}

/// The name of the network behind the device `id`.
pub(crate) fn net_of(id: &str) -> String {
    format!("{id}-net")
}

fn set(device: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let (Some(device), Some(value)) = (device.as_object_mut(), value) {
        device.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_disk_has_the_sectors_that_were_asked_for() {
        let disk = Disk::new("/x,y.img").bus(Bus::Nvme).sector(4096).serial("S1");
        let device = disk.device("disk0", None);
        assert_eq!(device["driver"], "nvme");
        assert_eq!(device["logical_block_size"], 4096);
        assert_eq!(device["serial"], "S1");
        assert_eq!(device["drive"], disk.blockdev("disk0").unwrap()["node-name"]);
        assert_eq!(disk.blockdev("disk0").unwrap()["file"]["filename"], "/x,y.img");
    }

    #[test]
    fn sectors_that_no_such_disk_has_are_refused() {
        for disk in [Disk::new("x").sector(520), Disk::new("x").bus(Bus::Ahci).sector(4096)] {
            assert!(
                disk.blockdev("disk0").unwrap_err().to_string().contains("sectors"),
                "{disk:?}"
            );
        }
    }

    #[test]
    fn only_pci_devices_go_into_a_pci_slot() {
        let slot = Some("slot0");
        assert_eq!(Disk::new("x").device("d", slot)["bus"], "slot0");
        assert_eq!(Disk::new("x").bus(Bus::Usb).device("d", slot).get("bus"), None);
        assert_eq!(Nic::default().device("n", slot)["bus"], "slot0");
        assert_eq!(Nic::default().model(Model::Usb).device("n", slot).get("bus"), None);
    }
}
