//! The names that udev gives to disks in `/dev/disk/by-id`, from what sysfs says: there is no udev here.
//!
//! By the rules of systemd 257, `rules.d/60-persistent-storage.rules.in` and the programs that it calls:
//! <https://github.com/systemd/systemd/tree/v257/rules.d>. Names of SCSI disks by page 83 (`scsi-…`) are left
//! out: such disks have a `wwn-…` too.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::probe::{clean, model, serial, text};

/// All names of the disk `name`, whose folder in sysfs is `sys`.
pub(super) fn names(sys: &Path, name: &str) -> Vec<String> {
    let (device, serial) = (sys.join("device"), serial(sys));
    let named = |bus: &str, model: Option<String>| {
        Some(format!("{bus}-{}_{}", word(&model?), word(serial.as_deref()?)))
    };
    let mut names = Vec::new();
    if name.starts_with("vd") {
        names.extend(serial.as_ref().map(|serial| format!("virtio-{}", word(serial))));
    } else if name.starts_with("nvme") {
        names.extend(named("nvme", model(sys)));
        // It begins with its kind: `eui.`, `uuid.`.
        names.extend(text(&sys.join("wwid")).map(|id| format!("nvme-{}", word(&id))));
    } else if name.starts_with("mmcblk") {
        let serial = serial.as_deref().map(|s| s.strip_prefix("0x").unwrap_or(s));
        let name = model(sys).zip(serial);
        names.extend(name.map(|(model, serial)| format!("mmc-{}_0x{}", word(&model), serial)));
    } else if let Some(at) = usb_address(&device) {
        let parts = [text(&device.join("vendor")), model(sys), serial];
        if let [Some(vendor), Some(model), Some(serial)] =
            parts.map(|part| part.as_deref().map(word))
        {
            names.push(format!("usb-{vendor}_{model}_{serial}-{at}"));
        }
    } else {
        let ata = fs::read(device.join("vpd_pg89")).ok();
        names.extend(named("ata", ata.and_then(|page| ata_model(&page))));
    }
    let wwid = text(&device.join("wwid"));
    let naa = wwid.as_deref().and_then(|wwid| wwid.strip_prefix("naa."));
    names.extend(naa.map(|naa| format!("wwn-0x{naa}")));
    names
}

/// udev writes blanks as `_`, several as one, and so what has no place in the name of a file.
fn word(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let fits = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii();
    words.join("_").chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

/// The model of an ATA disk, which SCSI has room for only in part: the ATA information page has the
/// answer to IDENTIFY DEVICE in it, from byte 60 (SAT-4, 12.4.2). There, words 27 to 46 are the model, with the
/// bytes of each word swapped (ACS-3, 7.12.7).
fn ata_model(page: &[u8]) -> Option<String> {
    let swapped = page.get(60 + 54..60 + 94)?;
    let bytes: Vec<u8> = swapped.chunks(2).flat_map(|pair| pair.iter().rev()).copied().collect();
    clean(&String::from_utf8_lossy(&bytes))
}

/// What a disk on USB hangs on: the folder in sysfs of the USB device. `device` is that of the disk's own device.
pub(super) fn usb_device(device: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(device).ok()?;
    folder.ancestors().find(|folder| folder.join("idVendor").exists()).map(Path::to_owned)
}

/// `TARGET:LUN` of a disk on USB.
fn usb_address(device: &Path) -> Option<String> {
    usb_device(device)?;
    let folder = fs::canonicalize(device).ok()?;
    let address = folder.file_name()?.to_str()?;
    let mut parts = address.split(':').skip(2);
    Some(format!("{}:{}", parts.next()?, parts.next()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::{os::unix::fs::symlink, path::PathBuf};

    use super::*;

    fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn disks_have_the_names_that_udev_gives_them() {
        let dir = tempfile::tempdir().unwrap();
        let block = dir.path().join("block");
        write(block.join("vda/serial"), "gse-disk");
        write(block.join("nvme0n1/device/serial"), "S4EWNX0R123456 \n");
        write(block.join("nvme0n1/device/model"), "Samsung SSD 970 EVO  1TB   \n");
        write(block.join("nvme0n1/wwid"), "eui.0025385b01234567\n");
        write(block.join("mmcblk0/device/serial"), "0x1a2b3c4d\n");
        write(block.join("mmcblk0/device/name"), "SD32G\n");
        let mut page = vec![0; 572];
        let plain = format!("{:<40}", "WDC WD5E00BZ-X00XD0A");
        for (to, from) in page[114..].chunks_mut(2).zip(plain.as_bytes().chunks(2)) {
            to.copy_from_slice(&[from[1], from[0]]);
        }
        write(block.join("sda/device/vpd_pg89"), page);
        write(block.join("sda/device/vpd_pg80"), b"\x00\x80\x00\x08  WD-123\x00\x00");
        write(block.join("sda/device/model"), "WDC WD5E00BZ-X00\n");
        write(block.join("sda/device/wwid"), "naa.50014ee2b1234567\n");
        let usb = dir.path().join("devices/usb1/1-1");
        write(usb.join("idVendor"), "0781\n");
        write(usb.join("serial"), "4C530001\n");
        let lun = usb.join("1-1:1.0/host2/target2:0:0/2:0:0:0");
        write(lun.join("vendor"), "SanDisk \n");
        write(lun.join("model"), "Ultra Fit       \n");
        fs::create_dir_all(block.join("sdb")).unwrap();
        symlink(&lun, block.join("sdb/device")).unwrap();
        fs::create_dir_all(block.join("sdc")).unwrap();
        for (name, wanted) in [
            ("vda", vec!["virtio-gse-disk"]),
            (
                "nvme0n1",
                vec!["nvme-Samsung_SSD_970_EVO_1TB_S4EWNX0R123456", "nvme-eui.0025385b01234567"],
            ),
            ("mmcblk0", vec!["mmc-SD32G_0x1a2b3c4d"]),
            ("sda", vec!["ata-WDC_WD5E00BZ-X00XD0A_WD-123", "wwn-0x50014ee2b1234567"]),
            ("sdb", vec!["usb-SanDisk_Ultra_Fit_4C530001-0:0"]),
            ("sdc", vec![]),
        ] {
            assert_eq!(names(&block.join(name), name), wanted, "{name}");
            assert_eq!(usb_device(&block.join(name).join("device")).is_some(), name == "sdb");
        }
    }
}
