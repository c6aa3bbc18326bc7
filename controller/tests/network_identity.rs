//! What identifies a machine, from a sysfs of the test's own.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use gse_controller::network::identity;

fn card(sys: &Path, name: &str, index: u32, mac: &str, kind: u16, device: bool) {
    let directory = sys.join("class/net").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("type"), format!("{kind}\n")).unwrap();
    fs::write(directory.join("ifindex"), format!("{index}\n")).unwrap();
    fs::write(directory.join("address"), format!("{mac}\n")).unwrap();
    if device {
        fs::create_dir(directory.join("device")).unwrap();
    }
}

fn firmware(sys: &Path, file: &str, text: &str) {
    let directory = sys.join("class/dmi/id");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(file), text).unwrap();
}

#[test]
fn links_come_in_the_kernels_order_and_each_address_once() {
    let sys = tempfile::tempdir().unwrap();
    card(sys.path(), "lo", 1, "00:00:00:00:00:00", 772, false);
    card(sys.path(), "eth10", 12, "52:54:00:00:00:10", 1, true);
    card(sys.path(), "eth2", 4, "52:54:00:00:00:02", 1, true);
    card(sys.path(), "eth0", 2, "52:54:00:00:00:AA", 1, true);
    card(sys.path(), "br0", 3, "52:54:00:00:00:02", 1, false);
    card(sys.path(), "eth9", 9, "00:00:00:00:00:00", 1, true);
    let all = ["52:54:00:00:00:aa", "52:54:00:00:00:02", "52:54:00:00:00:10"];
    assert_eq!(identity(sys.path()).macs, all);
}

#[test]
fn a_placeholder_in_the_firmware_is_no_serial_number() {
    let sys = tempfile::tempdir().unwrap();
    assert_eq!(identity(sys.path()), Default::default());
    firmware(sys.path(), "product_serial", "To be filled by O.E.M.\n");
    assert_eq!(identity(sys.path()).serial, None);
    firmware(sys.path(), "board_serial", "MB-77\n");
    assert_eq!(identity(sys.path()).serial.as_deref(), Some("MB-77"));
    firmware(sys.path(), "product_serial", "PF1A2B3C\n");
    assert_eq!(identity(sys.path()).serial.as_deref(), Some("PF1A2B3C"));
}
