//! What every end-to-end test begins with: a directory, and a lab in it.
//!
//! Each test has a lab of its own: making one takes a second or two, and a test may so publish and break what it
//! likes. A test runs one machine at a time, so there are never more of them than test threads,
//! which are as many as processors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::Duration,
};

use gse_qemu::{
    Exit, Filesystem, Lab, Machine,
    fixtures::{Flavour, kernel, systemd_tree, tree},
    lab::slot_for,
    process::Broom,
};
use tempfile::TempDir;

/// Longer than anything takes under emulation on a busy host with two processors.
pub const LONG: Duration = Duration::from_secs(10 * 60);

/// The version of the image that labs publish first.
pub const VERSION: &str = "1";

/// A directory for images of several hundred megabytes, so not in a `/tmp` that may be in memory. It goes with
/// this process at the latest, even if that is killed.
pub fn scratch() -> TempDir {
    static PARENT: OnceLock<(PathBuf, Broom)> = OnceLock::new();
    let (parent, _) = PARENT.get_or_init(|| {
        let of_host =
            std::env::var_os("GSE_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let parent = temporary(&of_host).keep();
        let broom = Broom::new(&parent).unwrap();
        (parent, broom)
    });
    temporary(parent)
}

fn temporary(parent: &Path) -> TempDir {
    let dir = tempfile::Builder::new().prefix("gse-test-").tempdir_in(parent);
    dir.unwrap_or_else(|e| panic!("creating a directory in {}: {e}", parent.display()))
}

/// A lab in `dir` with the Debian tree published as [`VERSION`], its configuration published, a controller for the
/// stock cloud kernel, and its server running.
pub fn debian(dir: &Path, filesystem: Filesystem) -> Lab {
    distribution(dir, &tree().unwrap(), filesystem)
}

/// As [`debian`], with systemd.
pub fn systemd(dir: &Path, filesystem: Filesystem) -> Lab {
    distribution(dir, &systemd_tree().unwrap(), filesystem)
}

fn distribution(dir: &Path, tree: &Path, filesystem: Filesystem) -> Lab {
    let slot = slot_for(tree).unwrap();
    let lab = Lab::new(dir, kernel(Flavour::Cloud).unwrap(), slot, filesystem).unwrap();
    lab.publish(tree, VERSION).unwrap();
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

/// Copies what a lab has published, and its keys, to where another is going to be made.
pub fn copy_published(from: &Path, to: &Path) {
    for name in ["gse.key", "gse.key.pub", "dist.d"] {
        copy(&from.join(name), &to.join(name));
    }
}

/// What a test expects of a machine's console. A failure shows the console's last lines.
pub trait Watch {
    /// Waits for each of these, in this order; the machine does not end in rescue in the meantime.
    fn shows(&self, patterns: &[&str]);
    /// Waits until each of these was shown, in whatever order; likewise.
    fn shows_in_any_order(&self, patterns: &[&str]);
    /// Waits until the machine is in rescue, which says these, in this order, and asks what to do.
    fn rescues(&self, patterns: &[&str]);
    /// Waits until the machine has ended by itself, and says how.
    fn ends(&self) -> Exit;
    /// None of these was ever shown.
    fn never_showed(&self, patterns: &[&str]);
}

const RESCUE: &str = "This machine could not start: ";
const PROMPT: &str = "rescue> ";

/// Where the processors of a machine are that was waited for in vain, twice, a moment apart.
fn processors(machine: &Machine) -> String {
    let look = || machine.processors().unwrap_or_else(|e| e.to_string());
    let first = look();
    thread::sleep(Duration::from_secs(1));
    format!("\nits processors:\n{first}\nand after a second:\n{}", look())
}

impl Watch for Machine {
    #[track_caller]
    fn shows(&self, patterns: &[&str]) {
        for pattern in patterns {
            self.shows_in_any_order(&[pattern]);
        }
    }

    #[track_caller]
    fn shows_in_any_order(&self, patterns: &[&str]) {
        let mut missing = patterns.to_vec();
        while !missing.is_empty() {
            // Without this a machine in rescue would be noticed when it reboots, many minutes later.
            let wanted = [&missing[..], &[RESCUE]].concat();
            let found = self.console.expect_any(&wanted, LONG);
            let (nth, _) = found.unwrap_or_else(|e| panic!("{e}{}", processors(self)));
            if nth == missing.len() {
                // The rest of its message is on the way; if it does not come, what is there is shown.
                let _ = self.console.expect(PROMPT, Duration::from_secs(20));
                panic!("rescue before {missing:?}; the last lines:\n{}", self.console.tail());
            }
            missing.remove(nth);
        }
    }

    #[track_caller]
    fn rescues(&self, patterns: &[&str]) {
        for pattern in [&[RESCUE], patterns, &[PROMPT]].concat() {
            let found = self.console.expect(pattern, LONG);
            found.unwrap_or_else(|e| panic!("{e}{}", processors(self)));
        }
    }

    #[track_caller]
    fn ends(&self) -> Exit {
        self.wait_exit(LONG).unwrap_or_else(|e| panic!("{e}{}", processors(self)))
    }

    #[track_caller]
    fn never_showed(&self, patterns: &[&str]) {
        let text = self.console.text();
        for pattern in patterns {
            assert!(!text.contains(pattern), "{pattern:?} was shown:\n{}", self.console.tail());
        }
    }
}
