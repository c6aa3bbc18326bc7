//! The modules for dracut, and real dracut run on them.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::{Lab, run, stock_kernel, unpack};
use gse::initramfs::{
    Flags, Local, Options, build,
    dracut::{Plan, Wanted},
};

/// As little of dracut as there can be: nothing of this host's configuration, no other modules, no compression.
const LITTLE: &str = "--conf /dev/null --modules 'gse base' --no-compress --no-early-microcode";

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// All regular files below a directory, by their paths in it.
fn files(top: &Path) -> BTreeSet<String> {
    let list = run(Command::new("find").arg(top).args(["-type", "f", "-printf", "%P\n"]));
    list.lines().map(str::to_owned).collect()
}

/// What is between two lines of a script, word by word, without quotes.
fn words(script: &str, after: &str) -> BTreeSet<String> {
    let list = script.split(after).nth(1).unwrap().split("\n}").next().unwrap();
    list.split_whitespace()
        .filter(|word| *word != "\\")
        .map(|w| w.trim_matches('\'').to_owned())
        .collect()
}

#[test]
fn the_modules_carry_what_the_own_image_has() {
    let lab = Lab::new();
    lab.configure("controller/system/files/etc/motd", "hello\n");
    let options = lab.options(&stock_kernel("cloud"), &[]);
    let report = build(&options).unwrap();
    let tree = lab.path("tree");
    unpack(&report.path, &tree);
    let built = Plan::new(&options, Wanted::No).unwrap().build(&options).unwrap();
    assert!(built.image.is_none());
    let modules = built.modules_d.unwrap();
    assert_eq!(modules, report.path.with_file_name("modules.d"));

    let root = modules.join("51gse-config/root");
    assert!(root.join("config.d/controller/system/files/etc/motd").exists());
    for file in files(&root) {
        assert_eq!(fs::read(root.join(&file)).unwrap(), fs::read(tree.join(&file)).unwrap());
    }
    for file in files(&tree.join("config.d")) {
        assert!(root.join("config.d").join(&file).exists(), "{file}");
    }
    let controller = modules.join("50gse/gse-controller");
    assert_eq!(fs::read(&controller).unwrap(), fs::read(tree.join("init")).unwrap());
    assert_eq!(fs::metadata(&controller).unwrap().permissions().mode() & 0o777, 0o755);

    let read =
        |module: &str| fs::read_to_string(modules.join(module).join("module-setup.sh")).unwrap();
    let network = words(&read("52gse-network"), "instmods");
    let storage = words(&read("53gse-storage"), "instmods");
    assert!(network.contains("virtio_net") && network.contains("net_failover"), "{network:?}");
    assert!(storage.contains("virtio_blk") && storage.contains("btrfs"), "{storage:?}");
    let both: Vec<String> = network.union(&storage).cloned().collect();
    assert_eq!(both, report.modules);
    let tools = words(&read("53gse-storage"), "require_binaries");
    for tool in ["mkfs.btrfs", "btrfs", "mkfs.ext4", "fsck.ext4"] {
        assert!(tools.contains(tool), "{tool}: {tools:?}");
    }
}

#[test]
fn kernel_and_module_options_are_in_the_own_image_too() {
    let lab = Lab::new();
    fs::write(lab.path("modprobe.conf"), "options virtio_net napi_weight=64\n").unwrap();
    let flags = Flags {
        cmdline: Some("gse.debug ip=dhcp ".to_owned()),
        modules: Some(lab.path("modprobe.conf")),
        ..Flags::default()
    };
    let mut options = lab.options(&stock_kernel("cloud"), &["virtio"]);
    options.local = flags.read().unwrap();
    let tree = lab.path("tree");
    unpack(&build(&options).unwrap().path, &tree);
    let read = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
    assert_eq!(read("etc/cmdline.d/20-gse.conf"), "gse.debug ip=dhcp\n");
    assert_eq!(read("etc/modprobe.d/gse-local.conf"), "options virtio_net napi_weight=64\n");
}

#[test]
fn what_cannot_be_a_hook_is_refused_with_the_reason() {
    let lab = Lab::new();
    fs::write(lab.path("a.sh"), "echo a\n").unwrap();
    let script = lab.path("a.sh");
    let hooks = |hooks: &[&str], scripts: &[&Path]| Flags {
        hooks: strings(hooks),
        scripts: scripts.iter().map(|path| path.to_path_buf()).collect(),
        ..Flags::default()
    };
    let missing = Path::new("/nonexistent/b.sh");
    let cases = [
        (
            hooks(&["before-mount 10"], &[&script]),
            &["\"before-mount\" is no hook point", "pre-mount"][..],
        ),
        (hooks(&["pre-mount ten"], &[&script]), &["\"ten\" is no priority", "0 to 99"]),
        (hooks(&["pre-mount"], &[&script]), &["--hook=\"pre-mount 30\""]),
        (hooks(&["pre-mount 30"], &[missing]), &["reading /nonexistent/b.sh", "No such file"]),
        (
            hooks(&["pre-mount 30", "mount 5"], &[&script]),
            &[
                "one script",
                "--hook=\"pre-mount 30\" /",
                "a.sh\n",
                "--hook=\"mount 5\" (no script)",
            ],
        ),
        (hooks(&[], &[&script]), &["(no --hook) /"]),
        (Flags { net: Some(missing.to_owned()), ..Flags::default() }, &["/nonexistent/b.sh"]),
        (Flags { modules: Some(missing.to_owned()), ..Flags::default() }, &["/nonexistent/b.sh"]),
        (
            Flags { dracut_options: strings(&["--omit 'crypt"]), ..Flags::default() },
            &["a quote that is not closed"],
        ),
        (Flags { without: strings(&["gse-netwrok"]), ..Flags::default() }, &["gse-network"]),
        (Flags { without: strings(&["gse"]), ..Flags::default() }, &["the controller itself"]),
    ];
    for (flags, words) in cases {
        let error = flags.read().unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
    }
    // The network's script comes before the controller, whatever else there is.
    let flags = Flags { net: Some(script.clone()), ..hooks(&["pre-mount 9"], &[&script]) };
    let places: Vec<String> = flags
        .read()
        .unwrap()
        .hooks
        .iter()
        .map(|hook| format!("{} {}", hook.point, hook.priority))
        .collect();
    assert_eq!(places, ["pre-mount 09", "pre-mount 08"]);
}

/// What dracut makes with [`LITTLE`] and these further options.
fn with_dracut(lab: &Lab, flags: Flags) -> (Plan, Options) {
    let mut options = lab.options(&stock_kernel("cloud"), &["virtio"]);
    let mut dracut_options = flags.dracut_options.clone();
    let confdir = lab.path("dracut.conf.d");
    fs::create_dir_all(&confdir).unwrap();
    dracut_options.insert(0, format!("{LITTLE} --confdir {}", confdir.display()));
    options.local = Flags { dracut_options, ..flags }.read().unwrap();
    (Plan::new(&options, Wanted::Yes).unwrap(), options)
}

#[test]
fn dracut_makes_an_image_of_them_and_the_same_one_again() {
    let lab = Lab::new();
    lab.filesystems(&["ext4"]);
    fs::write(lab.path("vlan.sh"), "echo vlan\n").unwrap();
    fs::write(lab.path("modprobe.conf"), "options virtio_net napi_weight=64\n").unwrap();
    let flags = Flags {
        hooks: strings(&["pre-mount 30"]),
        scripts: vec![lab.path("vlan.sh")],
        net: Some(lab.path("vlan.sh")),
        cmdline: Some("gse.debug".to_owned()),
        modules: Some(lab.path("modprobe.conf")),
        ..Flags::default()
    };
    let (plan, mut options) = with_dracut(&lab, flags);
    let image = plan.build(&options).unwrap().image.unwrap();
    assert_eq!(image.size, fs::metadata(&image.path).unwrap().len());
    assert_eq!(fs::metadata(&image.path).unwrap().permissions().mode() & 0o777, 0o644);
    // Nothing beside it and the modules.
    let beside = fs::read_dir(image.path.parent().unwrap()).unwrap();
    let mut beside: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["initramfs-dracut.img", "modules.d"]);

    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    run(Command::new("cpio").args(["-idm", "--quiet", "-F"]).arg(&image.path).current_dir(&tree));
    let read = |name: &str| fs::read(tree.join(name)).unwrap();
    assert_eq!(read("usr/sbin/gse-controller"), fs::read("/bin/busybox").unwrap());
    assert_eq!(read("etc/gse/stamp"), b"1700000000\n");
    assert_eq!(read("config.d/sources.toml"), fs::read(lab.path("config.d/sources.toml")).unwrap());
    assert_eq!(read("etc/cmdline.d/20-gse.conf"), b"gse.debug\n");
    assert!(tree.join("etc/modprobe.d/gse-local.conf").exists());
    assert!(tree.join("etc/mke2fs.conf").exists() && tree.join("usr/sbin/mke2fs").exists());
    let hooks = files(&tree.join("usr/lib/dracut/hooks"));
    for hook in [
        "cmdline/20-gse-cmdline.sh",
        "pre-mount/08-gse-local-02-vlan.sh",
        "pre-mount/10-gse-pre-mount.sh",
        "pre-mount/30-gse-local-01-vlan.sh",
        "mount/10-gse-mount.sh",
        "pre-pivot/10-gse-pre-pivot.sh",
        "emergency/00-gse-emergency.sh",
    ] {
        assert!(hooks.contains(hook), "{hook}: {hooks:?}");
    }
    let modules =
        run(Command::new("find").arg(tree.join("usr/lib/modules")).args(["-name", "*.ko"]));
    for module in ["virtio_net.ko", "virtio_blk.ko", "nls_utf8.ko"] {
        assert!(modules.contains(module), "{module}: {modules}");
    }

    let first = fs::read(&image.path).unwrap();
    options.force = true;
    let plan = Plan::new(&options, Wanted::Yes).unwrap();
    let again = plan.build(&options).unwrap().image.unwrap();
    assert!(first == fs::read(again.path).unwrap(), "two builds differ");
}

#[test]
fn what_dracut_says_is_told_when_it_fails_or_leaves_something_out() {
    let lab = Lab::new();
    let flags = |option: &str| Flags { dracut_options: strings(&[option]), ..Flags::default() };
    for (option, words) in [
        ("--no-such-option", &["dracut failed", "--no-such-option"][..]),
        ("--omit gse-network", &["left the module gse-network out", "--without=gse-network"]),
    ] {
        let (plan, options) = with_dracut(&lab, flags(option));
        let error = plan.build(&options).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
        let directory = lab.path("dist.d/controller");
        assert!(!files(&directory).iter().any(|file| file.ends_with(".img")));
        fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn without_dracut_the_own_image_is_built_and_dracuts_is_refused_by_name() {
    let lab = Lab::new();
    fs::write(lab.path("a.sh"), "echo a\n").unwrap();
    let gse = |more: &[&str]| {
        let kernel = stock_kernel("cloud");
        Command::new(env!("CARGO_BIN_EXE_gse"))
            .arg(format!("--build-controller={}", kernel.display()))
            .arg(format!("--config={}", lab.path("config.d").display()))
            .arg(format!("--dist={}", lab.path("dist.d").display()))
            .args(["--controller=/bin/busybox", "--hook=pre-mount 30"])
            .arg(lab.path("a.sh"))
            .args(more)
            .env("PATH", "/nonexistent")
            .output()
            .unwrap()
    };
    let refused = gse(&["--image=dracut"]);
    assert!(!refused.status.success() && !lab.path("dist.d").exists());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("dracut is not installed"));

    let built = gse(&[]);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    for line in ["dracut is not installed here", "run in dracut's image alone"] {
        assert!(said.contains(line), "no {line:?} in: {said}");
    }
    let written = files(&lab.path("dist.d"));
    let has = |name: &str| written.iter().any(|path| PathBuf::from(path).ends_with(name));
    assert!(has("initramfs.img") && has("modules.d/50gse/gse-controller"), "{written:?}");
    assert!(!has("initramfs-dracut.img"));
}

#[test]
fn an_existing_image_or_directory_of_modules_stays_unless_forced() {
    let lab = Lab::new();
    let mut options = lab.options(&stock_kernel("cloud"), &["virtio"]);
    options.local = Local { without: vec!["gse-network".parse().unwrap()], ..Local::default() };
    let modules =
        Plan::new(&options, Wanted::No).unwrap().build(&options).unwrap().modules_d.unwrap();
    assert!(!modules.join("52gse-network").exists());
    fs::write(modules.join("mine"), "").unwrap();
    let error = Plan::new(&options, Wanted::No).unwrap_err().to_string();
    assert!(error.contains("modules.d is there already; --force"), "{error}");
    options.force = true;
    Plan::new(&options, Wanted::No).unwrap().build(&options).unwrap();
    assert!(!modules.join("mine").exists() && modules.join("50gse/gse-controller").exists());
}
