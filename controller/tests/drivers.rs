//! Which modules a real kernel's devices get, against what modprobe says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock, mpsc},
    time::{Duration, Instant},
};

use gse_controller::{
    cmdline::CmdLine,
    drivers::{Drivers, Hotplug},
    log::Log,
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
};

/// Longer than any wait that works.
const MINUTE: Duration = Duration::from_secs(60);

/// A stock kernel's tree, and its release.
static KERNEL: LazyLock<(PathBuf, String)> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/fixture-kernel");
    let output =
        Command::new(script).arg("cloud").output().expect("running scripts/fixture-kernel");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
    let modules = fs::read_dir(tree.join("lib/modules")).unwrap().next().unwrap().unwrap();
    let release = modules.file_name().into_string().unwrap();
    (tree, release)
});

fn drivers() -> Drivers {
    let (tree, release) = &*KERNEL;
    Drivers::open(tree, release, &CmdLine::default(), &Log::console())
}

/// The kernel's tree for modprobe. libkmod 30 takes the first `softdep` line of a module alone, though a
/// module such as btrfs has several; here the lines of each are joined.
fn joined_softdeps() -> tempfile::TempDir {
    let (tree, release) = &*KERNEL;
    let mut joined: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for line in modules_file("modules.softdep").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["softdep", name, kind, others @ ..] = words.as_slice() else { continue };
        let (pre, post) = joined.entry((*name).to_owned()).or_default();
        let list = if *kind == "pre:" { pre } else { post };
        list.extend(others.iter().map(|o| (*o).to_owned()));
    }
    let lines = joined.iter().map(|(name, (pre, post))| {
        format!("softdep {name} pre: {} post: {}\n", pre.join(" "), post.join(" "))
    });
    let root = tempfile::tempdir().unwrap();
    let modules = root.path().join("lib/modules").join(release);
    fs::create_dir_all(&modules).unwrap();
    for entry in fs::read_dir(tree.join("lib/modules").join(release)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "modules.softdep" {
            symlink(entry.path(), modules.join(entry.file_name())).unwrap();
        }
    }
    fs::write(modules.join("modules.softdep"), lines.collect::<String>()).unwrap();
    root
}

/// What modprobe would load, each file once. Only the tree's own `etc/modprobe.d` counts.
fn modprobe(wanted: &str, tree: &Path) -> Vec<String> {
    let release = &KERNEL.1;
    let output = Command::new("modprobe")
        .args(["--show-depends", "--config"])
        .arg(tree.join("etc/modprobe.d"))
        .arg("-d")
        .arg(tree)
        .args(["-S", release, wanted])
        .output()
        .unwrap();
    let directory = format!("{}/lib/modules/{release}/", tree.display());
    let mut paths: Vec<String> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let Some(path) = line.strip_prefix("insmod ") else { continue };
        let path = path.split_whitespace().next().unwrap().strip_prefix(&directory).unwrap();
        if !paths.iter().any(|p| p == path) {
            paths.push(path.to_owned());
        }
    }
    paths
}

/// A file of the kernel's modules directory.
fn modules_file(name: &str) -> String {
    let (tree, release) = &*KERNEL;
    fs::read_to_string(tree.join("lib/modules").join(release).join(name)).unwrap()
}

#[test]
fn what_is_loaded_side_by_side_waits_for_what_it_looks_for_when_it_starts() {
    let drivers = drivers();
    let names = ["btrfs", "xfs"].map(str::to_owned);
    let plan: BTreeMap<_, _> = drivers.plan_at_once(&names).into_iter().collect();
    let stem = |path: &str| path.rsplit('/').next().unwrap().split('.').next().unwrap().to_owned();
    let waits: BTreeMap<_, BTreeSet<_>> = plan
        .iter()
        .map(|(path, first)| (stem(path), first.iter().map(|path| stem(path)).collect()))
        .collect();
    for name in ["libcrc32c", "btrfs"] {
        assert!(waits[name].contains("crc32c-intel"), "{name}: {waits:?}");
    }
    assert!(waits["crc32c-intel"].is_empty());
    let all: BTreeSet<_> = names.iter().flat_map(|name| drivers.plan_named(name)).collect();
    assert_eq!(plan.into_keys().collect::<BTreeSet<_>>(), all);
}

#[test]
fn every_module_of_a_stock_kernel_has_the_order_that_modprobe_has() {
    let (drivers, tree) = (drivers(), joined_softdeps());
    let names: Vec<String> = modules_file("modules.dep")
        .lines()
        .map(|line| {
            let path = line.split(':').next().unwrap();
            let file = path.rsplit('/').next().unwrap();
            file.split('.').next().unwrap().to_owned()
        })
        .collect();
    assert!(names.len() > 500, "a stock kernel has more modules than {}", names.len());
    for name in &names {
        assert_eq!(drivers.plan_named(name), modprobe(name, tree.path()), "{name}");
    }
}

#[test]
fn modaliases_find_the_modules_that_modprobe_finds() {
    let (drivers, tree) = (drivers(), joined_softdeps());
    // Devices that fit the kernel's own patterns: something for each wildcard.
    let text = modules_file("modules.alias");
    let mut modaliases: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|pattern| !pattern.contains('['))
        .step_by(7)
        .map(|pattern| pattern.replace('*', "0A1F").replace('?', "7"))
        .collect();
    assert!(modaliases.len() > 300, "{}", modaliases.len());
    // QEMU's q35 with virtio, AHCI, e1000e and xHCI, as its sysfs gives them; and what is no device.
    modaliases.extend(
        [
            "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
            "virtio:d00000001v00001AF4",
            "virtio:d00000002v00001AF4",
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
            "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
            "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30",
            "usb:v1D6Bp0002d0601dc09dsc00dp01ic09isc00ip00in00",
            "acpi:PNP0303:",
            "cpu:type:x86,ven0000fam0006mod000F:feature:,0000,0001,0019,001A",
            "fs-btrfs",
            "fs-xfs",
            "crypto-crc32c",
            "crypto-xxhash64",
            "net-pf-17",
            "no:such-device",
        ]
        .map(str::to_owned),
    );
    let mut found = 0;
    for modalias in &modaliases {
        let plan = drivers.plan_for(modalias);
        found += usize::from(!plan.is_empty());
        assert_eq!(plan, modprobe(modalias, tree.path()), "{modalias}");
    }
    assert!(found > 300, "{found}");
}

#[test]
fn the_administrators_rules_change_what_is_loaded() {
    let (tree, release) = &*KERNEL;
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/modprobe.d")).unwrap();
    fs::create_dir_all(root.path().join("lib/modules")).unwrap();
    let modules = tree.join("lib/modules").join(release);
    symlink(modules, root.path().join("lib/modules").join(release)).unwrap();
    let config = root.path().join("etc/modprobe.d/lab.conf");
    fs::write(&config, "softdep virtio_net pre: veth post: dummy\nblacklist virtio_blk\n").unwrap();

    let open = |line| Drivers::open(root.path(), release, &CmdLine::parse(line), &Log::console());
    let drivers = open("");
    let plan = drivers.plan_named("virtio-net");
    assert_eq!(plan, modprobe("virtio-net", root.path()));
    let place = |name: &str| plan.iter().position(|p| p.contains(name)).unwrap();
    assert!(place("/veth.ko") < place("/virtio_net.ko"), "{plan:?}");
    assert!(place("/virtio_net.ko") < place("/dummy.ko"), "{plan:?}");

    let (net, disk) = ("virtio:d00000001v00001AF4", "virtio:d00000002v00001AF4");
    assert!(drivers.plan_for(disk).is_empty(), "blacklisted, and asked for by its alias");
    assert!(!drivers.plan_named("virtio_blk").is_empty(), "asked for by its name");
    assert!(!drivers.plan_for(net).is_empty());
    assert!(open("modprobe.blacklist=foo,virtio-net").plan_for(net).is_empty());
}

#[test]
fn a_kernel_without_modules_has_nothing_to_load() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::console();
    let drivers = Drivers::open(root.path(), "6.1.0", &CmdLine::default(), &log);
    assert_eq!(drivers.load_for("pci:v00001AF4d00001041sv*", &log), 0);
    assert!(!drivers.load_named("virtio_net", &log));
    drivers.coldplug(Path::new("/sys"), &log, &|| true);
}

#[test]
fn a_module_that_does_not_load_is_no_more_than_a_message() {
    let root = tempfile::tempdir().unwrap();
    let modules = root.path().join("lib/modules/1.0");
    fs::create_dir_all(&modules).unwrap();
    fs::write(modules.join("modules.dep"), "a.ko: b.ko\nb.ko:\nc.ko.zst:\nd.ko.xz:\ngone.ko:\n")
        .unwrap();
    fs::write(modules.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
    fs::write(modules.join("modules.alias"), "alias x:* a\nalias x:1 c\nalias x:1 gone\n").unwrap();
    for name in ["a.ko", "b.ko", "c.ko.zst", "d.ko.xz"] {
        fs::write(modules.join(name), "this is no module").unwrap();
    }
    let log = Log::console();
    let drivers = Drivers::open(root.path(), "1.0", &CmdLine::default(), &log);
    assert_eq!(drivers.plan_for("x:1"), ["b.ko", "a.ko", "c.ko.zst", "gone.ko"]);
    assert_eq!(drivers.load_for("x:1", &log), 0);
    for name in ["a", "b", "c", "d", "gone", "unknown"] {
        assert!(!drivers.load_named(name, &log), "{name}");
    }
    assert!(drivers.load_named("ext4", &log), "built in");
}

/// A root whose one module is a named pipe: whoever loads it opens it, which can be seen.
struct Watched {
    root: tempfile::TempDir,
    pipe: PathBuf,
}

impl Watched {
    fn new(pattern: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let modules = root.path().join("lib/modules/1.0");
        fs::create_dir_all(&modules).unwrap();
        fs::write(modules.join("modules.dep"), "driver.ko:\n").unwrap();
        fs::write(modules.join("modules.alias"), format!("alias {pattern} driver\n")).unwrap();
        let pipe = modules.join("driver.ko");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        Self { root, pipe }
    }

    /// Starts with a sysfs of the test's own.
    fn start(&self) -> Hotplug {
        let log = Arc::new(Log::console());
        let drivers = Drivers::open(self.root.path(), "1.0", &CmdLine::default(), &log);
        Hotplug::start(Arc::new(drivers), self.root.path().join("sys"), log).unwrap()
    }

    /// Waits until the module is being loaded, and lets that end.
    fn loaded(self) {
        fs::OpenOptions::new().write(true).open(&self.pipe).unwrap();
    }
}

#[test]
fn the_drivers_of_devices_that_are_there_are_loaded_at_the_start() {
    let watched = Watched::new("pci:v00001234d*");
    let device = watched.root.path().join("sys/bus/pci/devices/0000:00:04.0");
    fs::create_dir_all(&device).unwrap();
    fs::write(device.join("modalias"), "pci:v00001234d00005678sv0sd0\n").unwrap();
    let hotplug = watched.start();
    watched.loaded();
    assert_eq!(hotplug.wait_until(MINUTE, || hotplug.coldplugged().then_some(7)), Some(7));
}

#[test]
fn the_driver_of_a_device_that_appears_is_loaded() {
    // A device of this machine, which the kernel announces once more when it is asked to.
    let (uevent, modalias) = fs::read_dir("/sys/devices/platform")
        .unwrap()
        .flatten()
        .find_map(|device| {
            let modalias = fs::read_to_string(device.path().join("modalias")).ok()?;
            Some((device.path().join("uevent"), modalias.trim().to_owned()))
        })
        .unwrap();
    let watched = Watched::new(&modalias);
    let hotplug = watched.start();
    fs::write(uevent, "add").unwrap();
    watched.loaded();
    drop(hotplug);
}

#[test]
fn whoever_waits_is_woken_by_each_event() {
    let root = tempfile::tempdir().unwrap();
    // Each probe makes the event that ends the next wait. Without them it would take a second each.
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let log = Arc::new(Log::console());
        let drivers = Drivers::open(root.path(), "1.0", &CmdLine::default(), &log);
        let hotplug = Hotplug::start(Arc::new(drivers), root.path().join("sys"), log).unwrap();
        let start = Instant::now();
        let mut count = 0;
        let found = hotplug.wait_until(MINUTE, || {
            count += 1;
            let name = format!("v{count}");
            let made = Command::new("ip").args(["link", "add", &name, "type", "veth"]).status();
            assert!(made.unwrap().success());
            (count == 40).then_some(count)
        });
        assert_eq!(found, Some(40));
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    })
    .join()
    .unwrap();
}

#[test]
fn beside_udev_nothing_is_loaded_and_what_is_waited_for_first_is_udev() {
    let (udev, settled) = mpsc::channel::<()>();
    let hotplug = Hotplug::beside_udev(move || settled.recv().unwrap_or_default()).unwrap();
    assert!(!hotplug.drivers().load_named("btrfs", &Log::console()));
    let coldplugged = || hotplug.coldplugged().then_some(());
    assert_eq!(hotplug.wait_until(Duration::from_millis(50), coldplugged), None);
    udev.send(()).unwrap();
    assert_eq!(hotplug.wait_until(MINUTE, coldplugged), Some(()));
    // The kernel is listened to all the same.
    let start = Instant::now();
    let mut probes = 0;
    let found = hotplug.wait_until(MINUTE, || {
        probes += 1;
        let uevent = fs::write("/sys/devices/virtual/mem/null/uevent", "change");
        assert!(uevent.is_ok());
        (probes == 20).then_some(())
    });
    assert!(found.is_some() && start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_wait_ends_with_its_time() {
    let watched = Watched::new("x");
    let hotplug = watched.start();
    let mut probes = 0;
    let start = Instant::now();
    let found: Option<()> = hotplug.wait_until(Duration::from_millis(1500), || {
        probes += 1;
        None
    });
    assert!(found.is_none() && probes >= 2, "{probes}");
    assert!(start.elapsed() >= Duration::from_millis(1500));
    assert_eq!(hotplug.wait_until(Duration::ZERO, || Some(1)), Some(1), "asked once at least");
}
