//! `controller/mounts.toml`: what is mounted over the read-only root.

use serde::{Deserialize, Serialize};

use super::{Error, drives::Size};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mounts {
    /// Directories in memory, which forget everything at the next boot.
    pub tmpfs: Vec<Tmpfs>,
    /// Where USERDATAFS is mounted, where there is one.
    pub userdata: String,
    /// Directories of USERDATAFS that appear elsewhere.
    pub bind: Vec<Bind>,
}

impl Default for Mounts {
    fn default() -> Self {
        let tmpfs = |path: &str, mode, keep| Tmpfs {
            path: path.to_owned(),
            size: None,
            mode: Mode(mode),
            keep,
        };
        Self {
            tmpfs: vec![
                tmpfs("/etc", 0o755, true),
                tmpfs("/var/log", 0o755, true),
                tmpfs("/tmp", 0o1777, false),
            ],
            userdata: "/user-data".to_owned(),
            bind: Vec::new(),
        }
    }
}

/// A directory in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Absolute path in the image.
    pub path: String,
    /// The most that it takes; the kernel's default is half of the memory.
    pub size: Option<Size>,
    /// Permissions of the directory.
    #[serde(default)]
    pub mode: Mode,
    /// Whether the image's content is copied into it.
    #[serde(default)]
    pub keep: bool,
}

/// Permissions, written as an octal string such as `"1777"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

impl Default for Mode {
    fn default() -> Self {
        Self(0o755)
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mode = u32::from_str_radix(&text, 8).ok().filter(|m| *m <= 0o7777);
        mode.map(Self).ok_or_else(|| format!("{text:?} is no mode like \"0755\""))
    }
}

/// A directory of USERDATAFS that appears elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Relative to USERDATAFS, made where it is missing.
    pub from: String,
    /// Absolute path in the image.
    pub to: String,
}

impl Mounts {
    /// Reads `controller/mounts.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/mounts.toml";
        let mounts: Self = super::parse(FILE, text)?;
        let targets = mounts.tmpfs.iter().map(|t| &t.path).chain(mounts.bind.iter().map(|b| &b.to));
        for path in targets.chain([&mounts.userdata]) {
            let plain = |path: &str| path.split('/').skip(1).all(|p| !matches!(p, "" | "." | ".."));
            if !path.starts_with('/') || !plain(path) || path.contains(char::is_control) {
                let message = format!("{path:?} is no absolute path like /var/log");
                return Err(Error::new(FILE, message).in_line_of(text, path));
            }
        }
        for bind in &mounts.bind {
            let from = &bind.from;
            if from.split('/').any(|p| matches!(p, "" | "." | ".."))
                || from.contains(char::is_control)
            {
                let message = format!("{from:?} is no path below USERDATAFS");
                return Err(Error::new(FILE, message).in_line_of(text, from));
            }
        }
        Ok(mounts)
    }
}
