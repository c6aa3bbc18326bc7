//! What every end-to-end test begins with: a directory, and a lab in it.
//!
//! Each test has a lab of its own: making one takes a second or two, and a test may so publish and break what it
//! likes. A test runs one machine at a time, so there are never more of them than test threads,
//! which are as many as processors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gse_qemu::{
    Exit, Filesystem, Lab, Machine,
    fixtures::{Flavour, kernel, tree},
    lab::slot_for,
};
use tempfile::TempDir;

/// Longer than anything takes under emulation on a busy host with two processors.
pub const LONG: Duration = Duration::from_secs(10 * 60);

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
pub fn debian(dir: &Path, filesystem: Filesystem) -> Lab {
    let tree = tree().unwrap();
    let lab = Lab::new(dir, kernel(Flavour::Cloud).unwrap(), slot_for(&tree).unwrap(), filesystem)
        .unwrap();
    lab.publish(&tree, VERSION).unwrap();
    lab.publish_config().unwrap();
    lab.build_controller().unwrap();
    lab
}

/// Puts `lines` in front of a file of a lab's configuration, or makes it.
pub fn prepend(lab: &Lab, path: &str, lines: &str) {
    let text = fs::read_to_string(lab.config().join(path)).unwrap_or_default();
    lab.write_config(path, &format!("{lines}\n{text}")).unwrap();
}

/// Copies a file or a directory; what was never written in a file stays so.
pub fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto", "--sparse=always", "--no-target-directory"]).arg(from).arg(to);
    assert!(cp.status().unwrap().success(), "copying {} to {}", from.display(), to.display());
}

/// What a test expects of a machine's console. A failure shows the console's last lines.
pub trait Watch {
    /// Waits for each of these, in this order.
    fn shows(&self, patterns: &[&str]);
    /// Waits until the machine has ended by itself, and says how.
    fn ends(&self) -> Exit;
    /// None of these was ever shown.
    fn never_showed(&self, patterns: &[&str]);
}

impl Watch for Machine {
    #[track_caller]
    fn shows(&self, patterns: &[&str]) {
        for pattern in patterns {
            // A machine that ends in rescue would only be noticed when it reboots by itself.
            let rescue = "This machine could not start";
            match self.console.expect_any(&[pattern, rescue], LONG) {
                Ok((1, _)) if !pattern.contains(rescue) => {
                    panic!(
                        "rescue instead of {pattern:?}; the last lines:\n{}",
                        self.settled_tail()
                    )
                }
                Ok(_) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[track_caller]
    fn ends(&self) -> Exit {
        self.wait_exit(LONG).unwrap_or_else(|e| panic!("{e}"))
    }

    #[track_caller]
    fn never_showed(&self, patterns: &[&str]) {
        let text = self.console.text();
        for pattern in patterns {
            assert!(!text.contains(pattern), "{pattern:?} was shown:\n{}", self.console.tail());
        }
    }
}

trait Settled {
    fn settled_tail(&self) -> String;
}

impl Settled for Machine {
    /// The last lines, with the whole of the rescue's message.
    fn settled_tail(&self) -> String {
        // Whether it comes or not: the lines so far are what is shown.
        let _ = self.console.expect("rescue>", Duration::from_secs(20));
        self.console.tail()
    }
}
