//! A machine small enough to try the harness on: a stock kernel and a shell script as `/init`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use gse_qemu::{Spec, fixtures::Kernel};
use tempfile::TempDir;

/// Longer than anything takes on a busy host with two processors.
pub(crate) const LONG: Duration = Duration::from_secs(240);

/// A directory for images: not in memory, as `/tmp` may be.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A machine whose `/init` is this script, with these kernel modules, and what they need, loaded before it.
pub(crate) fn machine(dir: &Path, kernel: &Kernel, modules: &[&str], script: &str) -> Spec {
    let root = dir.join("initramfs");
    for sub in ["bin", "dev", "proc", "sys", "run", "modules"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let mut init = "#!/bin/busybox sh\n\
        /bin/busybox --install -s /bin\n\
        export PATH=/bin\n\
        mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n"
        .to_owned();
    let mut loaded = BTreeSet::new();
    for file in modules.iter().flat_map(|name| kernel.module(name).unwrap()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        fs::copy(&file, root.join("modules").join(&name)).unwrap();
        if loaded.insert(name.clone()) {
            init += &format!("insmod /modules/{name}\n");
        }
    }
    init += script;
    fs::write(root.join("init"), init).unwrap();
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    Spec::new(&kernel.image, pack(&root, &dir.join("initramfs.img"))).memory(512)
}

fn pack(root: &Path, image: &Path) -> PathBuf {
    let list = Command::new("find").arg(".").current_dir(root).output().unwrap();
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(image).unwrap())
        .spawn()
        .unwrap();
    cpio.stdin.take().unwrap().write_all(&list.stdout).unwrap();
    assert!(cpio.wait().unwrap().success());
    image.to_owned()
}
