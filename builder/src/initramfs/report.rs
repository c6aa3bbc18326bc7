//! What was built, for people and for programs.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::Serialize;

use super::{archive::Packed, tree::Category};

/// What was built.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The image.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The kernel that it is for.
    pub kernel: String,
    /// Its parts, in their order.
    pub parts: Vec<Part>,
    /// The names of the kernel modules.
    pub modules: Vec<String>,
    /// Number of firmware files that the modules may ask for and this host does not have.
    pub firmware_missing: usize,
    /// Whether rescue has a shell.
    pub shell: Shell,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Whether rescue has a shell, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shell {
    /// It has.
    Present,
    /// Nobody could open it: the configuration has no `rescue.password`.
    NoPassword,
    /// The host has no static busybox.
    NoBusybox,
}

/// A part of the image.
#[derive(Debug, Serialize)]
pub struct Part {
    /// What is in it.
    pub category: Category,
    /// Number of files.
    pub files: usize,
    /// Bytes of their content.
    pub plain: u64,
    /// Bytes that they take in the image.
    pub packed: u64,
}

impl Report {
    pub(super) fn parts(packed: &[Packed]) -> Vec<Part> {
        let mut parts: BTreeMap<Category, Part> = BTreeMap::new();
        for segment in packed {
            let category = segment.category;
            let part =
                parts.entry(category).or_insert(Part { category, files: 0, plain: 0, packed: 0 });
            part.files += segment.files;
            part.plain += segment.plain;
            part.packed += segment.bytes.len() as u64;
        }
        parts.into_values().collect()
    }

    pub(super) fn took(mut self, time: Duration) -> Self {
        self.seconds = time.as_secs_f64();
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, modules) = (self.path.display(), self.modules.len());
        writeln!(f, "{path}: kernel {}, {modules} modules", self.kernel)?;
        for part in &self.parts {
            let name = format!("{:?}", part.category).to_lowercase();
            let (packed, plain) = (kib(part.packed), kib(part.plain));
            writeln!(f, "  {name:<11}{packed:>8} KiB  ({:>4} files, {plain:>6} KiB)", part.files)?;
        }
        writeln!(f, "  {:<11}{:>8} KiB  in {:.2} s", "image", kib(self.size), self.seconds)?;
        if !self.parts.iter().any(|p| p.category == Category::Microcode) {
            writeln!(f, "No microcode: this host has none in /lib/firmware.")?;
        }
        if self.firmware_missing > 0 {
            let n = self.firmware_missing;
            writeln!(f, "{n} firmware files that these drivers may ask for are not on this host.")?;
        }
        match self.shell {
            Shell::Present => Ok(()),
            Shell::NoPassword => {
                writeln!(
                    f,
                    "No shell in rescue: boot.toml has no rescue.password. For one, build this again with it."
                )
            }
            Shell::NoBusybox => {
                writeln!(f, "No shell in rescue: this host has no static busybox (busybox-static).")
            }
        }
    }
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}
