//! Power cuts: what a machine makes of its disk afterwards.
//!
//! A cut's disk is given to the program `gse-power-on`, a process of its own with a mount namespace of its own, that
//! decides with the controller's own code as a power-on without a network does. Its [`Verdict`] comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use gse_qemu::replay::MemoryDisk;
use serde::{Deserialize, Serialize};

use crate::disk::output;

/// What a machine does when the power comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It starts the system in this partition.
    Boots {
        /// The partition's number.
        partition: u32,
        /// The system's version.
        version: String,
    },
    /// There is no system, and a server's would be installed.
    Installs,
    /// A person is needed: the reason.
    Rescue(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boots { version, .. } => write!(f, "boots {version}"),
            Self::Installs => f.write_str("installs"),
            Self::Rescue(_) => f.write_str("rescue"),
        }
    }
}

/// What is found on a disk after a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What the machine does.
    pub outcome: Outcome,
    /// The files of BOOTFS and USERDATAFS, where they are made: digests by path.
    pub places: BTreeMap<String, BTreeMap<String, String>>,
    /// What the system that is started knows of the machine's last fallback: which version gave way, and why.
    pub fallback: Option<String>,
    /// The serials of releases that failed on this machine, and are not to be installed again.
    pub refused: BTreeSet<u64>,
    /// What is not as it must be, whatever the machine does.
    pub wrong: Vec<String>,
}

/// A verdict, and all that was said on the way to it.
#[derive(Debug)]
pub struct Examined {
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, String>,
    /// The controller's log.
    pub said: String,
}

/// A loop device whose partitions the kernel can be told of. It goes when this is dropped, or the process ends.
struct Loop {
    path: PathBuf,
    _open: File,
}

impl Loop {
    fn new(image: &Path, sector: u32) -> Self {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--partscan"]).arg(format!("--sector-size={sector}"));
        let path = PathBuf::from(output(losetup.arg(image)).trim());
        let open = File::open(&path).unwrap();
        // While it is open, this means: when it is closed for the last time.
        output(Command::new("losetup").arg("--detach").arg(&path));
        Self { path, _open: open }
    }
}

/// Switches a machine with this disk on, as far as to the choice of a system. The disk is changed as a machine
/// would change it. `program` is `gse-power-on`, `config` the `config.d` of the machine's initramfs.
pub fn examine(program: &Path, config: &Path, disk: &MemoryDisk, sector: u32) -> Examined {
    let device = Loop::new(&disk.path(), sector);
    let answer = tempfile::NamedTempFile::new().unwrap();
    let run =
        Command::new(program).arg(config).arg(&device.path).arg(answer.path()).output().unwrap();
    let text = fs::read_to_string(answer.path()).unwrap();
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let verdict = match run.status.success() {
        true => serde_json::from_str(&text).map_err(|e| e.to_string()),
        false => Err(format!("{} ended with {}", program.display(), run.status)),
    };
    Examined { verdict, said: said.concat() }
}
