//! The initramfs that a lab's machines boot: the controller's own, or one that dracut makes.
//!
//! dracut takes half a minute, so each kind of its images is made once for a process. What is a lab's own in
//! it (the configuration with the key and the server) follows in an archive that is appended: the kernel
//! unpacks one after the other, and the last file of a name counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use gse_qemu::{Lab, Spec, fixtures};

use crate::{
    disk::output,
    lab::{copy, scratch},
};

/// A kind of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The controller's own.
    Own,
    /// dracut's, whose first process is its shell script.
    Dracut,
    /// dracut's, whose first process is systemd.
    Systemd,
    /// That of dracut-ng, which Gentoo has.
    DracutNg,
    /// The same, whose first process is systemd.
    DracutNgSystemd,
    /// As docs/dracut.md says for machines without gse: modules that were copied by hand, and named in dracut's
    /// configuration, together with dracut's own network. All else is what dracut takes by itself.
    ByHand,
}

/// Scripts that are in dracut's images, by the flag that puts them there. What a hook prints goes to the
/// console: with systemd, its output does not.
const HOOKS: [(&str, &str, &str); 4] = [
    // Something that never comes, where the kernel command line asks for it.
    (
        "cmdline 90",
        "wait.sh",
        "if getargbool 0 lab.wait; then echo false >$hookdir/initqueue/finished/lab.sh; fi\n",
    ),
    ("pre-mount 09", "before.sh", "echo lab: the hook before the controller >/dev/console\n"),
    ("pre-mount 30", "after.sh", "echo lab: the hook after phase 8 >/dev/console\n"),
    (
        "pre-pivot 90",
        "last.sh",
        "grep -q \"$NEWROOT/etc tmpfs\" /proc/mounts && echo lab: the hook after phase 9 >/dev/console\n",
    ),
];

/// A script for `--net`, which does its work where the kernel command line asks for it.
const NET: &str = "if getargbool 0 lab.net; then
    for link in /sys/class/net/e*; do
        ip link set \"${link##*/}\" up
        ip addr add 10.0.2.99/24 dev \"${link##*/}\"
        ip route add default via 10.0.2.2
    done
fi
";

impl Image {
    /// Builds it for the lab's configuration as it is now; [`Image::machine`] boots it.
    pub fn build(self, lab: &Lab) {
        if self == Self::Own {
            return lab.build_controller().unwrap();
        }
        let base = self.base(lab);
        // The modules that gse writes have exactly what is the lab's own.
        let own = modules_d(lab).join("51gse-config/root");
        let mut image = fs::read(base).unwrap();
        image.extend(archive(&own));
        fs::write(lab.initramfs(), image).unwrap();
    }

    /// A machine of the lab that boots it.
    pub fn machine(self, lab: &Lab) -> Spec {
        match self {
            Self::Own => lab.machine(),
            _ => lab.machine().append("root=gse"),
        }
    }

    /// The image without anything that is a lab's own.
    fn base(self, lab: &Lab) -> &'static Path {
        static BASES: [OnceLock<PathBuf>; 5] = [const { OnceLock::new() }; 5];
        let [plain, systemd, ng, ng_systemd, by_hand] = &BASES;
        let ng_directory = || Some(fixtures::dracut_ng().unwrap());
        match self {
            Self::Own | Self::Dracut => plain.get_or_init(|| by_gse(lab, "gse base", None)),
            Self::Systemd => systemd.get_or_init(|| by_gse(lab, "gse base dracut-systemd", None)),
            Self::DracutNg => {
                ng.get_or_init(|| by_gse(lab, "gse base shell-interpreter", ng_directory()))
            }
            Self::DracutNgSystemd => ng_systemd.get_or_init(|| {
                by_gse(lab, "gse base dracut-systemd shell-interpreter", ng_directory())
            }),
            Self::ByHand => by_hand.get_or_init(|| self::by_hand(lab)),
        }
    }
}

/// What `gse` has dracut make, with these of dracut's modules and those that they ask for.
fn by_gse(lab: &Lab, modules: &str, dracut: Option<PathBuf>) -> PathBuf {
    let dir = scratch().keep();
    // Nothing of this host's own configuration.
    let confdir = dir.join("dracut.conf.d");
    fs::create_dir(&confdir).unwrap();
    let mut words = Vec::new();
    let mut scripts = Vec::new();
    for (place, name, text) in HOOKS {
        fs::write(dir.join(name), text).unwrap();
        words.push(format!("--hook={place}"));
        scripts.push(dir.join(name));
    }
    fs::write(dir.join("net.sh"), NET).unwrap();
    let image = dir.join("base.img");
    words.extend([
        format!("--net={}", dir.join("net.sh").display()),
        "--image=dracut".to_owned(),
        format!("--output={}", image.display()),
        format!("--dracut_opt=--conf /dev/null --confdir {}", confdir.display()),
        format!("--dracut_opt=--modules '{modules}' --install 'ip grep'"),
        "--dracut_opt=--no-compress --no-early-microcode".to_owned(),
    ]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    gse(lab, &words, &scripts, dracut.as_deref());
    let list = Command::new("cpio").args(["-t", "--quiet", "-F"]).arg(&image).output().unwrap();
    let names = String::from_utf8_lossy(&list.stdout).into_owned();
    let has_systemd = names.lines().any(|name| name.ends_with("lib/systemd/systemd"));
    assert_eq!(has_systemd, modules.contains("systemd"), "{modules}");
    image
}

/// What dracut makes by itself.
fn by_hand(lab: &Lab) -> PathBuf {
    let dir = scratch().keep();
    // For this host's /usr/lib/dracut and /etc/dracut.conf.d, which stay as they are.
    let (base, confdir) = (dir.join("dracut"), dir.join("dracut.conf.d"));
    copy(Path::new("/usr/lib/dracut"), &base);
    for module in fs::read_dir(modules_d(lab)).unwrap() {
        let module = module.unwrap();
        copy(&module.path(), &base.join("modules.d").join(module.file_name()));
    }
    fs::create_dir(&confdir).unwrap();
    fs::write(
        confdir.join("50-gse.conf"),
        "add_dracutmodules+=\" gse network-legacy \"\ncompress=cat\nearly_microcode=no\n",
    )
    .unwrap();
    let (image, kernel) = (dir.join("base.img"), &lab.kernel().modules);
    let mut dracut = Command::new("dracut");
    dracut.env("dracutbasedir", &base).args(["--force", "--no-hostonly", "--conf", "/dev/null"]);
    dracut.arg("--confdir").arg(&confdir).arg("--kmoddir").arg(kernel);
    output(dracut.arg(&image).arg(kernel.file_name().unwrap()));
    image
}

/// The modules for dracut that `gse` writes with the lab's configuration as it is now.
fn modules_d(lab: &Lab) -> PathBuf {
    gse(lab, &["--image=own"], &[], None);
    let release = lab.kernel().modules.file_name().unwrap();
    lab.dist().join("controller").join(release).join("modules.d")
}

/// Builds, with a dracut that is not installed if need be: the directory that has its `usr`.
fn gse(lab: &Lab, words: &[&str], scripts: &[PathBuf], dracut: Option<&Path>) {
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    lab.run(|command| {
        if let Some(dracut) = dracut {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", dracut.join("usr/bin").display()));
            command.env("dracutbasedir", dracut.join("usr/lib/dracut"));
        }
        command
            .arg(option("build-controller", &lab.kernel().modules))
            .arg(option("config", &lab.config()))
            .arg("--force")
            .args(words)
            .args(scripts)
    })
    .unwrap();
}

/// Everything below a directory as an archive that the kernel unpacks.
fn archive(top: &Path) -> Vec<u8> {
    let list = Command::new("find").arg(".").current_dir(top).output().unwrap();
    let mut cpio = Command::new("cpio")
        .args(["-o", "-H", "newc", "--quiet"])
        .current_dir(top)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cpio.stdin.take().unwrap().write_all(&list.stdout).unwrap();
    let output = cpio.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}
