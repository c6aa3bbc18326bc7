//! One lab for all tests of a process: making it takes longer than most tests.
//!
//! A test that changes what is published, or stops the server, makes a lab of its own with [`own`]. All
//! others boot machines of the [`shared`] one, each with disks of its own:
//!
//! ```no_run
//! let lab = gse_tests::lab::shared();
//! let dir = gse_tests::lab::scratch();
//! let machine = lab.machine().disk(lab.blank_disk(&dir.path().join("disk")).unwrap()).start().unwrap();
//! machine.console.expect("login:", gse_tests::lab::LONG).unwrap();
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use gse_qemu::{
    Disk, Exit, Filesystem, Lab,
    fixtures::{Flavour, kernel, tree},
    lab::slot_for,
    process::Broom,
};
use tempfile::TempDir;

/// Longer than anything takes under emulation on a busy host with two processors.
pub const LONG: Duration = Duration::from_secs(15 * 60);

/// The version of the image that labs publish first.
pub const VERSION: &str = "1";

/// A directory for images of several hundred megabytes, so not in a `/tmp` that may be in memory.
pub fn scratch() -> TempDir {
    let parent = std::env::var_os("GSE_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    let dir = tempfile::Builder::new().prefix("gse-test-").tempdir_in(&parent);
    dir.unwrap_or_else(|e| panic!("creating a directory in {}: {e}", parent.display()))
}

/// A lab in `dir` with the Debian tree published as [`VERSION`], its configuration published, a controller for the
/// stock cloud kernel, and its server running.
pub fn own(dir: &Path, filesystem: Filesystem) -> Lab {
    let tree = tree().unwrap();
    let lab = Lab::new(dir, kernel(Flavour::Cloud).unwrap(), slot_for(&tree).unwrap(), filesystem)
        .unwrap();
    lab.publish(&tree, VERSION).unwrap();
    lab.publish_config().unwrap();
    lab.build_controller().unwrap();
    lab
}

/// The lab that all tests of this process share, made at its first use. It goes with the process.
pub fn shared() -> &'static Lab {
    static SHARED: OnceLock<(Lab, Broom)> = OnceLock::new();
    let (lab, _) = SHARED.get_or_init(|| {
        let dir = scratch().keep();
        let broom = Broom::new(&dir).unwrap();
        (own(&dir, Filesystem::default()), broom)
    });
    lab
}

/// A disk in `dir` on which the [`shared`] lab's system was installed by a machine that was shut down cleanly.
/// The installation happens once; this is a copy.
pub fn installed_disk(dir: &Path) -> Disk {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    let master = INSTALLED.get_or_init(|| {
        let lab = shared();
        let image = lab.dir().join("installed.img");
        let machine = lab.machine().disk(lab.blank_disk(&image).unwrap()).start().unwrap();
        machine.console.expect(" login:", LONG).unwrap();
        machine.ctrl_alt_del().unwrap();
        assert_eq!(machine.wait_exit(LONG).unwrap(), Exit::Shutdown);
        image
    });
    let copy = dir.join("installed.img");
    let mut cp = Command::new("cp");
    cp.args(["--reflink=auto", "--sparse=always"]).arg(master).arg(&copy);
    assert!(cp.status().unwrap().success(), "copying {} to {}", master.display(), copy.display());
    Disk::new(copy)
}
