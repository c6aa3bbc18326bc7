//! What the worker leaves for the supervisor: which init to start.

use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::cmdline::CmdLine;

const FILE: &str = "/run/gse/handover.json";

/// The real system's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Absolute path in the real root.
    pub init: String,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Handover {
    /// `init=` on the kernel command line wins over the configuration; the words after `--`, and the
    /// run levels that the kernel would hand to init, are its arguments.
    pub fn new(cmdline: &CmdLine, configured: &str, init_args: &[String]) -> Self {
        let init = cmdline.value("init").filter(|path| path.starts_with('/'));
        Self { init: init.unwrap_or(configured).to_owned(), args: init_args.to_vec() }
    }

    /// Leaves it for the supervisor.
    pub fn store(&self) -> io::Result<()> {
        fs::write(FILE, serde_json::to_vec_pretty(self)?)
    }

    /// What the worker left.
    pub fn load() -> io::Result<Self> {
        let bytes = fs::read(FILE)?;
        fs::remove_file(FILE)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
