//! Images for stock kernels, taken apart with cpio and used with the kernel's and the filesystems' own tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::{Lab, archives, run, stock_kernel, top, unpack};
use gse::initramfs::{Category, Output, Shell, build};

/// A configuration with which rescue has a shell.
const PASSWORD: &str = "[rescue]\npassword = \"$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.\"\n";

/// A text index as sets, so that only what it says counts.
fn index(text: &str, split: &[char]) -> BTreeMap<String, BTreeSet<String>> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    let mut index: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines {
        let (key, values) = line.split_once(split).unwrap_or((line, ""));
        let values = values.split_whitespace().map(str::to_owned);
        index.entry(key.to_owned()).or_default().extend(values);
    }
    index
}

/// The module directory in an unpacked image.
fn modules_in(tree: &Path) -> PathBuf {
    fs::read_dir(tree.join("lib/modules")).unwrap().next().unwrap().unwrap().path()
}

fn depmod_agrees(flavour: &str, drivers: &[&str]) {
    let lab = Lab::new();
    let report = build(&lab.options(&stock_kernel(flavour), drivers)).unwrap();
    let tree = lab.path("tree");
    unpack(&report.path, &tree);
    let home = modules_in(&tree);
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    let ours = ["modules.dep", "modules.alias", "modules.softdep"].map(read);
    run(Command::new("depmod").arg("-b").arg(&tree).arg(home.file_name().unwrap()));
    let theirs = ["modules.dep", "modules.alias", "modules.softdep"].map(read);
    assert!(ours[0].lines().count() == report.modules.len() && report.modules.len() > 20);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(index(ours, &[':']), index(theirs, &[':']));
    }
}

#[test]
fn depmod_finds_the_same_dependencies_in_an_image_of_the_default_classes() {
    depmod_agrees("generic", &[]);
}

#[test]
fn depmod_finds_the_same_dependencies_in_an_image_of_a_cloud_kernel() {
    depmod_agrees("cloud", &["all"]);
}

#[test]
fn a_lab_machine_finds_its_drivers_in_the_default_image() {
    let lab = Lab::new();
    let report = build(&lab.options(&stock_kernel("generic"), &[])).unwrap();
    let tree = lab.path("tree");
    unpack(&report.path, &tree);
    let dep = fs::read_to_string(modules_in(&tree).join("modules.dep")).unwrap();
    let names: BTreeSet<String> = dep
        .lines()
        .filter_map(|l| Path::new(l.split(':').next()?).file_stem()?.to_str())
        .map(|n| n.replace('-', "_"))
        .collect();
    for wanted in [
        "ahci",
        "ata_piix",
        "nvme",
        "vmd",
        "sd_mod",
        "virtio_blk",
        "virtio_scsi",
        "usb_storage",
        "uas",
        // What virtual machines imitate.
        "mptspi",
        "mptsas",
        "vmw_pvscsi",
        "sym53c8xx",
        "tulip",
        "pcnet32",
        "8139cp",
        "isci",
        "ufshcd_pci",
        "mmc_block",
        "sdhci_pci",
        "rtsx_pci_sdmmc",
        "e1000",
        "e1000e",
        "igb",
        "igc",
        "r8169",
        "realtek",
        "tg3",
        "atlantic",
        "virtio_net",
        "vmxnet3",
        "r8152",
        "ax88179_178a",
        "cdc_ether",
        "cdc_ncm",
        "xhci_pci",
        "ehci_pci",
        "usbhid",
        "hid_generic",
        "virtio_pci",
        "hv_netvsc",
        "hv_storvsc",
        "btrfs",
        "ext4",
        "vfat",
        "nls_ascii",
        "crc32c_generic",
        "crc32c_intel",
        "xxhash_generic",
        "blake2b_generic",
    ] {
        assert!(names.contains(wanted), "{wanted} is missing");
    }
    for unwanted in [
        "iwlwifi",
        "snd",
        "drm",
        "qla2xxx",
        "mlx5_core",
        "ib_core",
        "xfs",
        "scsi_debug",
        "megaraid_sas",
        "i40e",
        "ena",
        "pcmcia",
        "sg",
    ] {
        assert!(!names.contains(unwanted), "{unwanted} is of no use");
    }
}

#[test]
fn the_layout_is_what_the_kernel_and_the_controller_expect() {
    let lab = Lab::new();
    lab.configure("controller/system/files/etc/motd", "hello\n");
    lab.configure("system/make.conf", "for the builder alone\n");
    lab.filesystems(&["ext4"]);
    let mut options = lab.options(&stock_kernel("cloud"), &["virtio"]);
    let report = build(&options).unwrap();
    let release = stock_kernel("cloud").file_name().unwrap().to_owned();
    let path = lab.path("dist.d/controller").join(release).join("initramfs.img");
    assert_eq!(report.path, path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(report.size, fs::metadata(&path).unwrap().len());
    assert_eq!(report.size, report.parts.iter().map(|p| p.packed).sum::<u64>());

    let tree = lab.path("tree");
    unpack(&path, &tree);
    let mode =
        |name: &str| fs::symlink_metadata(tree.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("init"), mode("tmp"), mode("proc"), mode("config.d")),
        (0o755, 0o1777, 0o755, 0o755)
    );
    for empty in ["proc", "sys", "run", "sysroot", "tmp"] {
        assert_eq!(fs::read_dir(tree.join(empty)).unwrap().count(), 0, "{empty}");
    }
    for (node, number, permissions) in [("console", (5, 1), 0o600), ("null", (1, 3), 0o666)] {
        let metadata = fs::metadata(tree.join("dev").join(node)).unwrap();
        assert!(metadata.file_type().is_char_device());
        assert_eq!((metadata.rdev() >> 8, metadata.rdev() & 0xff), number);
        assert_eq!(metadata.mode() & 0o7777, permissions);
    }
    assert_eq!(fs::read(tree.join("init")).unwrap(), fs::read("/bin/busybox").unwrap());
    assert_eq!(fs::read_to_string(tree.join("etc/gse/stamp")).unwrap(), "1700000000\n");
    assert_eq!(fs::metadata(tree.join("init")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(
        fs::read(tree.join("config.d/controller/system/files/etc/motd")).unwrap(),
        b"hello\n"
    );
    assert!(!tree.join("config.d/system").exists());
    assert!(!tree.join("etc/ssl").exists());
    assert!(!tree.join("sbin/mkfs.btrfs").exists());

    // A second image: refused, unless told to.
    let error = build(&options).unwrap_err().to_string();
    assert!(error.contains("--force"), "{error}");
    options.force = true;
    build(&options).unwrap();
    options.output = Output::File(lab.path("other.img"));
    options.force = false;
    assert_eq!(build(&options).unwrap().path, lab.path("other.img"));
    assert_eq!(fs::read(lab.path("other.img")).unwrap(), fs::read(path).unwrap());
}

#[test]
fn a_shell_that_nobody_could_open_is_left_out() {
    let lab = Lab::new();
    lab.filesystems(&["ext4"]);
    let mut options = lab.options(&stock_kernel("cloud"), &["virtio"]);
    let without = build(&options).unwrap();
    assert_eq!(without.shell, Shell::NoPassword);
    assert!(without.to_string().contains("boot.toml has no rescue.password"), "{without}");
    lab.configure("controller/boot.toml", PASSWORD);
    options.force = true;
    let with = build(&options).unwrap();
    assert_eq!(with.shell, Shell::Present);
    assert!(with.size > without.size + 500_000);
}

#[test]
fn every_filesystem_can_be_made_and_checked_with_the_image_alone() {
    let lab = Lab::new();
    lab.filesystems(&["ext4", "btrfs", "xfs"]);
    lab.configure("controller/boot.toml", PASSWORD);
    // The host's tools, and those that GSE's build makes, which XFS has none of.
    for own in [None, Some(top().join(".static/tools"))] {
        let mut options = lab.options(&stock_kernel("cloud"), &["virtio"]);
        options.output = Output::File(lab.path(if own.is_some() { "own.img" } else { "host.img" }));
        options.tools = own;
        let report = build(&options).unwrap();
        assert_eq!(report.shell, Shell::Present);
        let tree = report.path.with_extension("tree");
        unpack(&report.path, &tree);
        make_and_check_filesystems(&tree);
    }
    let size = |name: &str| fs::metadata(lab.path(name)).unwrap().len();
    assert!(size("own.img") + 400_000 < size("host.img"));
}

fn make_and_check_filesystems(tree: &Path) {
    // In a mount namespace of its own, because the tools look at /proc/mounts.
    let inside = |words: &[&str]| {
        let script = r#"mount -t proc proc "$0/proc" && exec chroot "$0" "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(tree).args(words);
        run(&mut command)
    };
    let disk = |name: &str| {
        let file = fs::File::create(tree.join(name)).unwrap();
        file.set_len(512 << 20).unwrap();
    };
    for (name, make, check) in [
        (
            "ext4",
            &["/sbin/mkfs.ext4", "-q", "-F", "-L", "BOOTFS"][..],
            &["/sbin/fsck.ext4", "-f", "-n"][..],
        ),
        (
            "btrfs",
            &["/sbin/mkfs.btrfs", "-q", "-f", "-L", "SYSFS"],
            &["/sbin/btrfs", "check", "--readonly"],
        ),
        ("xfs", &["/sbin/mkfs.xfs", "-q", "-f", "-L", "BACKUPFS"], &["/sbin/xfs_repair", "-n"]),
    ] {
        disk(name);
        inside(&[make, &[name]].concat());
        inside(&[check, &[name]].concat());
        let found = run(Command::new("blkid")
            .args(["-o", "value", "-s", "TYPE", "-p"])
            .arg(tree.join(name)));
        assert_eq!(found.trim(), name);
    }
    // mke2fs without its configuration would make another kind of ext4.
    assert!(tree.join("etc/mke2fs.conf").exists());
    assert_eq!(inside(&["/bin/sh", "-c", "ls / | grep -c init"]).trim(), "1");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (one, other) = (Lab::new(), Lab::new());
    fs::set_permissions(other.path("config.d/sources.toml"), fs::Permissions::from_mode(0o664))
        .unwrap();
    let kernel = stock_kernel("cloud");
    let image = |lab: &Lab| fs::read(build(&lab.options(&kernel, &[])).unwrap().path).unwrap();
    let bytes = image(&one);
    assert!(bytes == image(&other), "two builds differ");
    assert!(archives(&bytes).len() > 5);
}

#[test]
fn compressed_modules_and_firmware_go_in_decompressed() {
    let lab = Lab::new();
    lab.filesystems(&["ext4"]);
    let home = lab.small_kernel(&[
        ("ext4", Some("xz")),
        ("r8169", Some("zstd")),
        ("e100", None),
        ("virtio_net", None),
    ]);
    let dep = fs::read_to_string(home.join("modules.dep")).unwrap();
    for packed in ["ext4.ko.xz:", "r8169.ko.zst:"] {
        assert!(dep.contains(packed), "{dep}");
    }
    let firmware = lab.path("root/lib/firmware");
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(firmware.join(name).parent().unwrap()).unwrap();
        fs::write(firmware.join(name), bytes).unwrap();
    };
    write("rtl_nic/rtl8168d-1.fw", b"one");
    write("rtl_nic/rtl8168d-2.fw", b"two");
    run(Command::new("xz").arg(firmware.join("rtl_nic/rtl8168d-2.fw")));
    write("e100/d101m_ucode.bin.zst", &zstd::encode_all(&b"three"[..], 1).unwrap());
    write("unasked.bin", b"nobody");
    write("intel-ucode/06-9e-0a", b"intel b");
    write("intel-ucode/06-9e-09", b"intel a ");
    write("amd-ucode/microcode_amd.bin", b"amd");
    write("amd-ucode/microcode_amd.bin.asc", b"a signature");

    let report = build(&lab.options(&home, &["net"])).unwrap();
    let archives = archives(&fs::read(&report.path).unwrap());
    assert!(archives[0].starts_with(b"070701") && !report.parts.is_empty());
    assert_eq!(report.parts[0].category, Category::Microcode);
    assert_eq!(report.parts[0].packed % 512, 0);
    let tree = lab.path("tree");
    unpack(&report.path, &tree);
    let read = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
    assert_eq!(read("lib/firmware/rtl_nic/rtl8168d-1.fw"), "one");
    assert_eq!(read("lib/firmware/rtl_nic/rtl8168d-2.fw"), "two");
    assert_eq!(read("lib/firmware/e100/d101m_ucode.bin"), "three");
    assert!(!tree.join("lib/firmware/unasked.bin").exists());
    assert!(report.firmware_missing > 10);
    assert_eq!(read("kernel/x86/microcode/GenuineIntel.bin"), "intel a intel b");
    assert_eq!(read("kernel/x86/microcode/AuthenticAMD.bin"), "amd");

    let stock = stock_kernel("generic");
    let inside = modules_in(&tree);
    for module in ["kernel/fs/ext4/ext4.ko", "kernel/drivers/net/ethernet/realtek/r8169.ko"] {
        assert!(fs::read(inside.join(module)).unwrap() == fs::read(stock.join(module)).unwrap());
    }
    let dep = fs::read_to_string(inside.join("modules.dep")).unwrap();
    assert!(!dep.contains(".xz") && !dep.contains(".zst"), "{dep}");
}
