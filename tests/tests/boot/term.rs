//! One machine, taken through what happens to a lab in a term.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use gse_qemu::{Disk, Exit, Filesystem, Lab, Server, fixtures::Flavour, lab::program};
use gse_tests::{
    disk,
    lab::{Watch as _, copy, scratch},
    small::{self, SLOT, banner},
    tree::{describe, differences},
};

/// Says what the configuration made of this system, and does what the configuration orders once.
const INIT: &str = r#"#!/bin/sh
PATH=/bin
echo "small: services" $(ls /etc/runlevels/default)
echo "small: motd" $(cat /etc/motd)
sh /etc/task
umount /user-data
echo "small: version $(cat /version) on $(cat /etc/hostname)"
/run/gse/gse-controller up && /run/gse/gse-controller closed
exec poweroff -f
"#;

const FIRST_TASK: &str = "mkdir /user-data/home\necho 'half a thesis' >/user-data/home/thesis\n";

/// Below the /etc in memory lies the system's own.
const MASK: &str = "mount -o remount,rw /\nmount --bind / /mnt\necho '#CF_MASK=ON' >>/mnt/etc/motd\n\
                    umount /mnt\nmount -o remount,ro /\n";

/// A tree with OpenRC's directories and a service that nobody started yet.
fn furnished(dir: &Path, version: &str) -> PathBuf {
    let tree = dir.join("trees").join(version);
    small::tree(&tree, version);
    for applet in ["ls", "mkdir", "mount", "umount"] {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    for below in ["etc/init.d", "etc/runlevels/default", "mnt"] {
        fs::create_dir_all(tree.join(below)).unwrap();
    }
    small::program(&tree.join("etc/init.d/chime"), "#!/sbin/openrc-run\n");
    small::program(&tree.join("sbin/init"), INIT);
    fs::write(tree.join("etc/motd"), "of the image\n").unwrap();
    tree
}

/// Whoever administrates this lab, and the machine.
struct Term {
    lab: Lab,
    disks: Vec<Disk>,
    /// Public keys, by the name of the file of the secret one.
    keys: BTreeMap<&'static str, String>,
    /// What the users have.
    data: Option<BTreeMap<Vec<u8>, String>>,
}

impl Term {
    fn new(dir: &Path) -> Self {
        let lab = small::unpublished(dir, Flavour::Cloud, Filesystem::Ext4);
        let mut term = Self { lab, disks: Vec::new(), keys: BTreeMap::new(), data: None };
        term.gse("old.key", &[&format!("--keygen={}", term.file("new.key").display())]);
        fs::rename(term.file("gse.key"), term.file("old.key")).unwrap();
        fs::rename(term.file("gse.key.pub"), term.file("old.key.pub")).unwrap();
        for name in ["old.key", "new.key"] {
            let public = fs::read_to_string(term.file(name).with_extension("key.pub")).unwrap();
            term.keys.insert(name, public.lines().nth(1).unwrap().to_owned());
        }
        term
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    fn gse_into(&self, dist: &Path, key: &str, words: &[&str]) {
        let mut gse = Command::new(program("gse").unwrap());
        gse.arg("--dist").arg(dist).arg("--key").arg(self.file(key)).args(words);
        let done = gse.output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn gse(&self, key: &str, words: &[&str]) {
        self.gse_into(&self.lab.dist(), key, words);
    }

    fn publish(&self, key: &str, version: &str) {
        let tree = furnished(self.lab.dir(), version);
        let archive = format!("--archive={}", tree.display());
        let old = format!("--pub={}", self.file("old.key.pub").display());
        self.gse(key, &[&archive, &format!("--version={version}"), &old]);
    }

    fn configure(&self, key: &str) {
        self.gse(key, &[&format!("--publish-config={}", self.lab.config().display())]);
    }

    fn write(&self, name: &str, text: &str) {
        self.lab.write_config(&format!("controller/{name}"), text).unwrap();
    }

    fn sources(&self, server: &str, keys: &[&str]) {
        let keys: Vec<&String> = keys.iter().map(|name| &self.keys[name]).collect();
        let text = format!("servers = [{server:?}]\nkeys = {keys:?}\n");
        self.lab.write_config("sources.toml", &text).unwrap();
    }

    fn drives(&self, second: &str) {
        let slot = |label| format!("label = \"{label}\"\nsize = \"{}M\"\n", SLOT >> 20);
        let entry = |text: String| format!("[[disk.partition]]\n{text}filesystem = \"ext4\"\n");
        let text = [
            "[[disk]]\nmatch.path = \"/dev/vda\"\n".to_owned(),
            entry("label = \"BOOTFS\"\nsize = \"128M\"\n".to_owned()),
            entry(slot("SYSFS")),
            entry("label = \"USERDATAFS\"\nsize = \"64M\"\n".to_owned()),
            second.to_owned(),
        ];
        let second = match second {
            "" => String::new(),
            _ => entry(slot("BACKUPFS")),
        };
        self.write("drives.toml", &(text.concat() + &second));
    }

    /// Starts the machine, which shows these and comes to its end; the users' data are what they were.
    fn start(&mut self, shows: &[&str], never: &[&str]) {
        let spec = self.disks.iter().cloned().fold(self.lab.machine(), gse_qemu::Spec::disk);
        let machine = spec.start().unwrap();
        machine.shows(shows);
        machine.shows(&["this system is closed"]);
        assert_eq!(machine.ends(), Exit::Shutdown);
        machine.never_showed(never);
        assert_eq!(disk::labels(&self.disks[0])[&1], "BOOTFS");
        let data = describe(disk::mount(&self.disks[0], 3).path()).unwrap();
        if let Some(before) = self.data.replace(data.clone()) {
            assert_eq!(differences(&before, &data), Vec::<String>::new());
        }
    }
}

#[test]
fn a_machine_goes_through_a_term() {
    let dir = scratch();
    let mut term = Term::new(dir.path());
    let first = term.lab.server().unwrap().url_for_machines();
    term.publish("old.key", "1");
    term.sources(&first, &["old.key"]);
    term.drives("");
    term.write("machines.toml", "[[machine]]\nhostname = \"lab-{mac}\"\n");
    term.write("system/runlevels", "chime add default\n");
    term.write("system/files/etc/motd", "welcome\n");
    term.write("system/files/etc/task", FIRST_TASK);
    term.lab.build_controller().unwrap();
    term.disks.push(term.lab.blank_disk(&dir.path().join("disk.img")).unwrap());
    let lab = "small: version 1 on lab-677365";
    term.start(&["small: services chime gse-up", "small: motd welcome", lab], &[]);
    assert!(term.data.as_ref().unwrap().contains_key(b"home/thesis".as_slice()));

    // Other names, one service less, a mask; a server that moves, and a key that the old one introduces.
    let second = Server::start(&program("gse").unwrap(), &term.lab.dist(), 0).unwrap();
    term.sources(&second.url_for_machines(), &["old.key", "new.key"]);
    term.write("machines.toml", "[[machine]]\nhostname = \"desk-{mac}\"\n");
    term.write("system/runlevels", "# none\n");
    term.write("system/files/etc/task", MASK);
    term.configure("old.key");
    let desk = "small: version 1 on desk-677365";
    term.start(&["configuration 1 fetched", "small: services gse-up", desk], &["chime"]);

    // From the new server, by the new key: what the image cannot do is refused as a whole.
    term.lab.stop_server();
    term.write("system/files/etc/motd", "welcome back\n");
    term.write("system/files/etc/task", "");
    term.write("system/runlevels", "chyme add default\n");
    term.configure("new.key");
    let refused = "the image has no service \"chyme\" (did you mean `chime`?)";
    let shows = ["configuration 2 fetched", refused, "small: motd welcome", desk];
    term.start(&shows, &["welcome back"]);

    // Taken back. The old key is revoked, and a disk is added for a backup of what that key had signed. The next
    // server is not there yet.
    let nobody = first;
    term.sources(&nobody, &["new.key"]);
    term.write("system/runlevels", "# none\n");
    term.drives("[[disk]]\nmatch.path = \"/dev/vdb\"\n");
    term.configure("new.key");
    term.disks.push(term.lab.blank_disk(&dir.path().join("second.img")).unwrap());
    let backup = "cloning version 1 into /dev/vdb1";
    let masked = "left alone: /etc/motd (masked on this machine)";
    let motd = "small: motd welcome #CF_MASK=ON";
    term.start(&["configuration 3 fetched", backup, masked, motd, desk], &[]);

    // Who has the old key has lost: neither a higher serial nor what the new key had signed before help.
    let forged = dir.path().join("forged");
    term.sources("http://10.0.2.2:1/", &["old.key"]);
    for number in 0..9 {
        term.write("system/files/etc/issue", &format!("{number}\n"));
        let config = format!("--publish-config={}", term.lab.config().display());
        term.gse_into(&forged, "old.key", &[&config]);
    }
    fs::remove_file(term.lab.config().join("controller/system/files/etc/issue")).unwrap();
    let genuine = dir.path().join("genuine");
    copy(&term.lab.dist(), &genuine);
    for name in ["config.tar", "config.tar.minisig"] {
        fs::copy(forged.join(name), term.lab.dist().join(name)).unwrap();
    }
    let unknown = "which is not among the trusted keys";
    term.start(&["asking the servers that worked before", unknown, masked, desk], &["fetched"]);

    // The server that worked before has a way out for machines that were sent to nobody. The term ends: all is
    // made new.
    for name in ["config.tar", "config.tar.minisig"] {
        fs::copy(genuine.join(name), term.lab.dist().join(name)).unwrap();
    }
    term.publish("new.key", "2");
    term.sources(&second.url_for_machines(), &["new.key"]);
    term.write("boot.toml", "[wipe]\ntoken = \"2027-spring\"\n");
    term.configure("new.key");
    let wipe = "wipe.token \"2027-spring\" is new to this machine";
    let desk = format!("{}desk-677365", banner("2"));
    let shows = ["asking the servers", "configuration 4 fetched", wipe, "small: motd welcome back"];
    term.start(&[&shows[..], &[&desk]].concat(), &["CF_MASK", masked]);
    let labels = [&term.disks[0], &term.disks[1]].map(disk::labels);
    assert_eq!((labels[0][&2].as_str(), labels[1][&1].as_str()), ("INCOMING", "SYSFS"));
    assert!(!disk::mount(&term.disks[0], 2).path().join("version").exists());

    // Once.
    term.start(&["cloning version 2 into /dev/vda2", "2 is the newest", &desk], &["wipe.token"]);
    for (disk, number) in [(0, 2), (1, 1)] {
        let record = disk::mount(&term.disks[disk], number).text(".gse/slot.toml");
        assert!(record.contains("wipes = [\"2027-spring\"]"), "{record}");
    }
}
