//! Kernels on real filesystems for BOOTFS: what was written is there after the filesystem was away. That of an EFI
//! partition is in the test of a whole machine, because not every kernel that runs these tests has it.

use std::{fs, path::Path};

use gse_controller::{
    bootfs::{BootFs, State},
    cmdline::CmdLine,
    disk::mount::{self, Access},
    log::Log,
    mount::Mounted,
};
use gse_protocol::release::WholeFile;

use crate::common::{Loop, MIB, run};

const GRUB: &str = "set default=$next_entry\nsource $prefix/gse.cfg\n";

/// BOOTFS of a type, with what a boot loader is known by.
struct Disk {
    device: Loop,
    kind: &'static str,
}

impl Disk {
    fn new(kind: &'static str, file: &str, text: &str) -> Self {
        let disk = Self { device: Loop::new(320 * MIB, 512), kind };
        run(&format!("mkfs.{kind}"), ["-q".as_ref(), disk.device.path.as_os_str()]);
        let log = Log::console();
        let mounted = disk.mounted(&log);
        let path = mounted.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        mounted.unmount().unwrap();
        disk
    }

    fn mounted<'l>(&self, log: &'l Log) -> Mounted<'l> {
        let target = self.device.folder("boot");
        mount::mount_boot(&self.device.path, self.kind, &target, Access::ReadWrite, log).unwrap()
    }

    /// Does something with the boot loader's files, which are then away for a moment.
    fn with<T>(&self, cmdline: &str, work: impl FnOnce(&BootFs, &Path) -> T) -> T {
        let log = Log::console();
        let mounted = self.mounted(&log);
        let boot = BootFs::open(mounted.path(), &CmdLine::parse(cmdline)).unwrap().unwrap();
        let done = work(&boot, mounted.path());
        mounted.unmount().unwrap();
        done
    }
}

fn named(path: &str, bytes: &[u8]) -> WholeFile {
    WholeFile::of(path.to_owned(), bytes)
}

#[test]
fn a_kernel_is_installed_and_confirmed() {
    let (kernel, initramfs) = (vec![7; 3 << 20], vec![9; 5 << 20]);
    let files = [named("kernel", &kernel), named("initramfs", &initramfs)];
    for (kind, file, text) in [
        ("ext4", "loader/loader.conf", "timeout 0\n"),
        ("ext4", "boot/grub/grub.cfg", GRUB),
        ("xfs", "grub2/grub.cfg", GRUB),
    ] {
        let disk = Disk::new(kind, file, text);
        disk.with("quiet", |boot, _| {
            boot.store(2, [&files[0], &files[1]], &|file, write| {
                let bytes = if file.path == "kernel" { &kernel } else { &initramfs };
                Ok(write(&mut bytes.as_slice())?)
            })
            .unwrap();
            boot.try_next(2).unwrap();
        });
        disk.with("quiet gse.kernel=2", |boot, top| {
            let read = |name: &str| fs::read(top.join("gse").join(name)).unwrap();
            assert!(read("vmlinuz-2") == kernel && read("initramfs-2.img") == initramfs);
            assert_eq!(boot.on_trial(), Some(2), "{kind} {file}");
            boot.confirm(2).unwrap();
        });
        let state = disk.with("quiet gse.kernel=2", |boot, _| boot.state(2).unwrap());
        assert_eq!(state, State::Good, "{kind} {file}");
        // No room: nothing of it stays, and the boot loader does what it did.
        disk.with("quiet gse.kernel=2", |boot, top| {
            let huge = named("kernel", &vec![1; 320 << 20]);
            let error = boot.store(3, [&huge, &files[1]], &|_, _| panic!("fetched")).unwrap_err();
            assert!(error.to_string().contains("BOOTFS has room for"), "{error}");
            assert_eq!(boot.state(3).unwrap(), State::Absent);
            assert_eq!(fs::read_dir(top.join("gse")).unwrap().count(), 2);
        });
    }
}
