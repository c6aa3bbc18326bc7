//! The configuration of a system, on real filesystems: every kind of file comes, stays without a write, goes
//! back to the image's own, and is undone as a whole where it cannot be had.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use common::{
    disk::{Disk, run},
    tree::describe,
};
use gse_controller::{configure, log::Log};
use gse_protocol::config::{
    Machines,
    bundle::{File, Files},
    machines::Identity,
    system::{self, Desired},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@lab\n";

/// Every kind of file. The paths of its `files/` have owners of their own.
const EVERYTHING: [(&str, &str); 16] = [
    ("hostname", "desk-{mac}\n"),
    ("hosts", "127.0.0.1 localhost\n"),
    ("fstab", "server:/home /home nfs rw 0 0\n"),
    ("net", "config_eth0=\"dhcp\"\n"),
    ("locale.gen", "de_DE.UTF-8 UTF-8\nen_US ISO-8859-1\n"),
    ("timezone", "Europe/Berlin\n"),
    ("consolefont", "consolefont=\"lat9w-16\"\n"),
    ("keymaps", "keymap=\"de\"\n"),
    ("runlevels", "sshd add default\nntpd del default\n"),
    ("sshd", "PasswordAuthentication no\n"),
    ("ssh.pub", KEY),
    ("ssh/alice.pub", KEY),
    ("links", "symlink f=y ../run/resolv.conf /etc/resolv.conf\nsymlink f=n x /etc/issue\n"),
    ("scripts/quota", "#!/bin/sh\nexit 0\n"),
    ("grub", "GRUB_TIMEOUT=2\n"),
    ("owners", "/etc/deep/er/secret alice:wheel 0640\n"),
];

/// What every machine has: its image on a small filesystem, with its records beside it.
struct System {
    disk: Disk,
}

impl System {
    /// An image with OpenRC, two services, a user, a time zone, and busybox.
    fn new(filesystem: &str, mib: u64) -> Self {
        let system = Self { disk: Disk::new(filesystem, mib) };
        let root = system.root();
        let folders = "bin sbin dev proc tmp root home/alice usr/lib/locale/C.utf8 usr/share/zoneinfo/Europe \
                       etc/init.d etc/runlevels/boot etc/runlevels/default etc/ssh etc/conf.d";
        for folder in folders.split_whitespace() {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::create_dir(system.gse()).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n"),
            ("etc/group", "root:x:0:\nwheel:x:10:\n"),
            ("etc/hostname", "image\n"),
            ("etc/locale.gen", "# none\n"),
            ("etc/resolv.conf", "nameserver 192.0.2.1\n"),
            ("etc/issue", "the image's\n"),
            ("etc/init.d/sshd", "#!/sbin/openrc-run\n"),
            ("etc/init.d/ntpd", "#!/sbin/openrc-run\n"),
            ("usr/lib/locale/C.utf8/LC_TIME", "C"),
            ("usr/share/zoneinfo/Europe/Berlin", "TZif"),
            ("usr/share/zoneinfo/Europe/Paris", "TZif"),
        ] {
            fs::write(root.join(path), text).unwrap();
        }
        fs::set_permissions(root.join("etc/hostname"), fs::Permissions::from_mode(0o604)).unwrap();
        symlink("/etc/init.d/ntpd", root.join("etc/runlevels/default/ntpd")).unwrap();
        symlink("/usr/share/zoneinfo/Europe/Paris", root.join("etc/localtime")).unwrap();
        system
    }

    fn root(&self) -> PathBuf {
        self.disk.path().join("root")
    }

    fn gse(&self) -> PathBuf {
        self.disk.path().join(".gse")
    }

    /// The image's `locale-gen`: a program for busybox's shell.
    fn locale_gen(&self, text: &str) {
        let path = self.root().join("sbin/locale-gen");
        fs::write(&path, format!("#!/bin/busybox sh\nset -e\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn apply(&self, files: &[(&str, &str)]) -> Result<Vec<String>> {
        let identity = Identity { macs: vec!["52:54:00:0a:0b:0c".to_owned()], serial: None };
        let files = files_of(files);
        assert_eq!(system::mistakes(&files), []);
        let desired = Desired::new(&files, &Machines::default(), &identity).unwrap();
        let points = ["var/log".to_owned()];
        configure::bring(&self.root(), &self.gse(), &desired, &points, &Log::console())
    }

    fn read(&self, path: &str) -> String {
        let path = self.root().join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn link(&self, path: &str) -> PathBuf {
        fs::read_link(self.root().join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_ok()
    }

    /// Mode, user and group.
    fn owner(&self, path: &str) -> (u32, u32, u32) {
        let meta = fs::symlink_metadata(self.root().join(path)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    }

    fn remount(&self, how: &str) {
        run(Command::new("mount").arg(format!("-oremount,{how}")).arg(self.disk.path()));
    }
}

/// With a file that lies under `files/`.
fn files_of(files: &[(&str, &str)]) -> Files {
    let file = |text: &str| File { mode: 0o644, bytes: text.as_bytes().to_vec() };
    files.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect()
}

fn everything() -> Vec<(&'static str, &'static str)> {
    [EVERYTHING.as_slice(), &[("files/etc/deep/er/secret", "x\n")]].concat()
}

/// Copies the list, says where it looked, and leaves something where it must not.
const LOCALE_GEN: &str =
    "echo made of \"$(/bin/busybox cat /etc/locale.gen)\" >/usr/lib/locale/locale-archive
/bin/busybox mkdir /usr/lib/locale/de_DE.utf8
echo de >/usr/lib/locale/de_DE.utf8/LC_TIME
echo x >/etc/litter; echo x >/tmp/litter
[ -c /dev/null ] && [ -d /proc/self ]";

fn all_kinds(filesystem: &str, mib: u64) {
    let system = System::new(filesystem, mib);
    system.locale_gen(LOCALE_GEN);
    // Its times are those of a directory in which links come and go.
    let image = contents(&system.root());

    let left = system.apply(&everything()).unwrap();
    assert_eq!(left, ["/etc/issue (the image has one, and f=n)"]);
    assert_eq!(system.read("etc/hostname"), "desk-0a0b0c\n");
    assert_eq!(system.read("etc/hosts"), "127.0.0.1 localhost\n");
    assert!(system.read("etc/fstab").starts_with("server:"));
    assert!(system.read("etc/conf.d/net").starts_with("config_eth0"));
    assert_eq!(system.read("etc/timezone"), "Europe/Berlin\n");
    assert_eq!(system.link("etc/localtime"), Path::new("../usr/share/zoneinfo/Europe/Berlin"));
    assert!(system.read("etc/conf.d/consolefont").contains("lat9w"));
    assert!(system.read("etc/conf.d/keymaps").contains("de"));
    assert!(system.read("etc/default/grub").contains("TIMEOUT"));
    assert_eq!(system.link("etc/runlevels/default/sshd"), Path::new("/etc/init.d/sshd"));
    assert!(!system.has("etc/runlevels/default/ntpd"));
    assert_eq!(system.link("etc/resolv.conf"), Path::new("../run/resolv.conf"));
    assert_eq!(system.read("etc/issue"), "the image's\n");
    assert_eq!(system.owner("etc/ssh/sshd_config"), (0o600, 0, 0));
    assert_eq!(system.owner("root/.ssh"), (0o700, 0, 0));
    assert_eq!(system.owner("home/alice/.ssh"), (0o700, 1000, 100));
    assert_eq!(system.owner("home/alice/.ssh/authorized_keys"), (0o600, 1000, 100));
    assert_eq!(system.owner("etc/local.d/quota.start"), (0o755, 0, 0));
    assert_eq!(system.owner("etc/deep/er/secret"), (0o640, 1000, 10));
    assert!(system.read("usr/lib/locale/locale-archive").contains("de_DE.UTF-8 UTF-8\nen_US"));
    assert_eq!(system.read("usr/lib/locale/de_DE.utf8/LC_TIME"), "de\n");
    assert!(!system.has("etc/litter") && !system.has("tmp/litter"));
    assert!(system.has("var/log"));

    // Nothing is written, so that nothing has to be writable; and no locale is made again.
    system.locale_gen("exit 1");
    let before = describe(&system.disk.path());
    system.remount("ro");
    system.apply(&everything()).unwrap();
    system.remount("rw");
    assert_eq!(describe(&system.disk.path()), before);

    system.locale_gen(LOCALE_GEN);
    system.apply(&[]).unwrap();
    assert_eq!(contents(&system.root()), with_var_log(image));
    assert_eq!(system.owner("etc/hostname").0, 0o604);
}

/// Names, owners, modes and contents, but no times.
fn contents(root: &Path) -> Vec<String> {
    let show =
        "find . -printf '%p %y %m %U:%G %l\\n' | sort; find . -type f -exec sha256sum {} + | sort";
    let text = run(Command::new("sh").args(["-c", show]).current_dir(root));
    text.lines().map(str::to_owned).collect()
}

/// Mount points are needed whatever the configuration says of files.
fn with_var_log(mut image: Vec<String>) -> Vec<String> {
    image.extend(["./var d 755 0:0 ", "./var/log d 755 0:0 "].map(str::to_owned));
    let (mut names, sums): (Vec<_>, Vec<_>) =
        image.into_iter().partition(|line| line.starts_with("./") || line.starts_with(". "));
    names.sort();
    [names, sums].concat()
}

#[test]
fn every_kind_comes_stays_and_goes_on_ext4() {
    all_kinds("ext4", 64);
}

#[test]
fn every_kind_comes_stays_and_goes_on_btrfs() {
    all_kinds("btrfs", 128);
}

#[test]
fn an_application_that_fails_half_way_is_undone_whole() {
    let system = System::new("ext4", 16);
    system.locale_gen(LOCALE_GEN);
    let first =
        [("hosts", "::1 one\n"), ("locale.gen", "C UTF-8\n"), ("runlevels", "sshd add default\n")];
    system.apply(&first).unwrap();
    let before = contents(&system.root());
    // It does not fit, and comes last.
    let large = "x".repeat(32 << 20);
    let second = [
        ("hosts", "::1 two\n"),
        ("locale.gen", "de_DE.UTF-8 UTF-8\n"),
        ("timezone", "Europe/Berlin\n"),
        ("links", "symlink f=y a /etc/hostname\n"),
        ("files/etc/deep/er/x", "x"),
        ("files/usr/share/large", &large),
    ];
    let error = format!("{:#}", system.apply(&second).unwrap_err());
    assert!(error.contains("/usr/share/large"), "{error}");
    assert_eq!(contents(&system.root()), before);
    // The records are what they were, too.
    let described = describe(&system.gse());
    system.remount("ro");
    system.apply(&first).unwrap();
    system.remount("rw");
    assert_eq!(describe(&system.gse()), described);
    system.apply(&[]).unwrap();
    assert!(!system.has("etc/hosts") && !system.has("etc/runlevels/default/sshd"));
    assert_eq!(system.read("etc/locale.gen"), "# none\n");
}

#[test]
fn what_the_image_does_not_know_refuses_the_whole() {
    let system = System::new("ext4", 16);
    let before = contents(&system.root());
    for (file, text, expected) in [
        (
            "runlevels",
            "sshdd add default\n",
            "runlevels:1: the image has no service \"sshdd\" (did you mean `sshd`?)",
        ),
        ("timezone", "Europe/Berln\n", "(did you mean `Europe/Berlin`?)"),
        ("ssh/alcie.pub", KEY, "(did you mean `alice`?)"),
    ] {
        let error = system.apply(&[("hosts", "::1 x\n"), (file, text)]).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
        assert_eq!(contents(&system.root()), before);
    }
}

#[test]
fn masks_hold_on_to_the_machines_own_until_they_go() {
    let system = System::new("ext4", 16);
    let one = [
        ("hosts", "::1 one\n"),
        ("keymaps", "keymap=\"de\"\n"),
        ("consolefont", "consolefont=\"x\"\n"),
    ];
    system.apply(&one).unwrap();
    let mine = "#CF_MASK=ON\n::1 mine\n";
    fs::write(system.root().join("etc/hosts"), mine).unwrap();
    fs::write(system.root().join("etc/conf.d/.CD_MASK"), "").unwrap();
    let two =
        [("hosts", "::1 two\n"), ("keymaps", "keymap=\"us\"\n"), ("timezone", "Europe/Berlin\n")];
    let left = system.apply(&two).unwrap();
    let masked = ["/etc/hosts", "/etc/conf.d/keymaps", "/etc/conf.d/consolefont"];
    assert_eq!(left, masked.map(|path| format!("{path} (masked on this machine)")));
    assert_eq!(system.read("etc/hosts"), mine);
    assert_eq!(system.read("etc/conf.d/keymaps"), "keymap=\"de\"\n");
    assert!(system.has("etc/conf.d/consolefont"));
    assert_eq!(system.read("etc/timezone"), "Europe/Berlin\n");

    fs::write(system.root().join("etc/hosts"), "::1 unmasked\n").unwrap();
    fs::remove_file(system.root().join("etc/conf.d/.CD_MASK")).unwrap();
    assert_eq!(system.apply(&two).unwrap(), [""; 0]);
    assert_eq!(system.read("etc/hosts"), "::1 two\n");
    assert_eq!(system.read("etc/conf.d/keymaps"), "keymap=\"us\"\n");
    assert!(!system.has("etc/conf.d/consolefont"));
}

#[test]
fn locales_that_cannot_be_made_are_told() {
    let system = System::new("ext4", 16);
    let list = [("locale.gen", "xx_XX UTF-8\n"), ("hosts", "::1 x\n")];
    system.locale_gen("echo no such locale >&2; exit 3");
    let error = format!("{:#}", system.apply(&list).unwrap_err());
    assert!(
        error.contains("/sbin/locale-gen failed") && error.contains("no such locale"),
        "{error}"
    );
    assert!(!system.has("etc/hosts"));
    // Without the program the list is applied all the same, and is not tried again.
    fs::remove_file(system.root().join("sbin/locale-gen")).unwrap();
    system.apply(&list).unwrap();
    assert_eq!(system.read("etc/locale.gen"), "xx_XX UTF-8\n");
    system.remount("ro");
    system.apply(&list).unwrap();
}

#[test]
fn links_of_the_image_are_followed_inside_the_image() {
    let system = System::new("ext4", 16);
    fs::create_dir(system.root().join("real")).unwrap();
    symlink("/real", system.root().join("etc/absolute")).unwrap();
    symlink("/etc/elsewhere", system.root().join("etc/link")).unwrap();
    let files = [("files/etc/absolute/x", "1"), ("files/etc/link", "2")];
    system.apply(&files).unwrap();
    assert_eq!(system.read("real/x"), "1");
    // The link itself is replaced, and comes back.
    assert_eq!(system.read("etc/link"), "2");
    system.apply(&[]).unwrap();
    assert_eq!(system.link("etc/link"), Path::new("/etc/elsewhere"));
    assert!(!system.has("real/x"));
}
