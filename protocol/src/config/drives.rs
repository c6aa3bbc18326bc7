//! `controller/drives.toml`: the partitions that a machine has.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Error;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drives {
    /// Seconds to wait for a disk that fits: USB and RAID take their time.
    pub timeout: u32,
    /// Disks that the controller may partition.
    pub disk: Vec<Disk>,
}

impl Default for Drives {
    fn default() -> Self {
        Self { timeout: 20, disk: Vec::new() }
    }
}

/// A disk, and the partitions that it is to have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Which disk: all that is given must fit, and exactly one disk must.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// In their order on the disk.
    pub partition: Vec<Partition>,
}

/// Which disk. Nothing given: the only disk that the machine has. `*` and `?` are wild.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Such as `/dev/vda`.
    pub path: Option<String>,
    /// The drive's serial number.
    pub serial: Option<String>,
    /// The drive's model.
    pub model: Option<String>,
    /// At least this large.
    pub min_size: Option<Size>,
    /// At most this large.
    pub max_size: Option<Size>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// What it is for.
    pub label: Role,
    /// Its size, or `all` that is left.
    pub size: Extent,
    /// Its filesystem.
    pub filesystem: Filesystem,
    /// Further words for mkfs.
    #[serde(default)]
    pub mkfs_options: Vec<String>,
    /// With btrfs: subvolumes beside `@`, such as `@home`.
    #[serde(default)]
    pub subvolumes: Vec<String>,
}

/// What a partition is for, by the label that it starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Role {
    /// Kernels, the kept configuration, logs.
    #[serde(rename = "BOOTFS")]
    Boot,
    /// A slot, the first to be filled.
    #[serde(rename = "SYSFS")]
    System,
    /// A slot.
    #[serde(rename = "BACKUPFS")]
    Backup,
    /// The users' data: made once, never formatted again.
    #[serde(rename = "USERDATAFS")]
    UserData,
}

impl Role {
    /// Whether a system can be installed there.
    pub fn is_slot(self) -> bool {
        matches!(self, Self::System | Self::Backup)
    }

    /// The name in the partition table. Labels move between slots; this stays.
    pub fn partition_name(self) -> &'static str {
        match self {
            Self::Boot => "gse-boot",
            Self::System => "gse-slot-1",
            Self::Backup => "gse-slot-2",
            Self::UserData => "gse-userdata",
        }
    }

    /// The label in `drives.toml`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Boot => "BOOTFS",
            Self::System => "SYSFS",
            Self::Backup => "BACKUPFS",
            Self::UserData => "USERDATAFS",
        }
    }
}

/// A filesystem type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// With the root in subvolume `@`.
    Btrfs,
    /// ext4
    Ext4,
    /// XFS
    Xfs,
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

/// A number of bytes, written with K, M, G or T (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = match text.strip_suffix("iB") {
            Some(digits) if digits.ends_with(['K', 'M', 'G', 'T']) => digits,
            _ => text,
        };
        let (number, shift) = match digits.chars().last() {
            Some('K') => (digits.strip_suffix('K'), 10),
            Some('M') => (digits.strip_suffix('M'), 20),
            Some('G') => (digits.strip_suffix('G'), 30),
            Some('T') => (digits.strip_suffix('T'), 40),
            _ => (Some(digits), 0),
        };
        number
            .and_then(|n| n.trim().parse::<u64>().ok())
            .and_then(|n| n.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no size like 512M or 20G"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.0.to_string()
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How much of a disk a partition takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Extent {
    /// This many bytes.
    Exactly(Size),
    /// All that is left, to be shared with none.
    All,
}

impl TryFrom<String> for Extent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Exactly) }
    }
}

impl Drives {
    /// Reads `controller/drives.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/drives.toml";
        let drives: Self = super::parse(FILE, text)?;
        let wrong = |value: &str, message| Err(Error::new(FILE, message).in_line_of(text, value));
        let mut seen = Vec::new();
        for disk in &drives.disk {
            for partition in &disk.partition {
                let label = partition.label;
                let name = label.label();
                if seen.contains(&label) {
                    return wrong(name, format!("{name} is there twice"));
                }
                seen.push(label);
                if partition.size == Extent::Exactly(Size(0)) {
                    return wrong(name, format!("{name} has size 0"));
                }
                if partition.filesystem != Filesystem::Btrfs && !partition.subvolumes.is_empty() {
                    return wrong(name, format!("{name} has subvolumes, but is not btrfs"));
                }
                let name_ok = |name: &String| {
                    !name.is_empty()
                        && name != "@"
                        && name.len() <= 255
                        && !name.starts_with('.')
                        && !name.contains(|c: char| c == '/' || c.is_control())
                };
                if let Some(bad) = partition.subvolumes.iter().find(|n| !name_ok(n)) {
                    return wrong(bad, format!("{bad:?} is no name for a subvolume"));
                }
                let mut names = partition.subvolumes.iter().enumerate();
                if let Some((_, twice)) =
                    names.find(|(n, name)| partition.subvolumes.iter().take(*n).any(|o| o == *name))
                {
                    return wrong(twice, format!("subvolume {twice:?} is there twice"));
                }
            }
            let all = disk.partition.iter().filter(|p| p.size == Extent::All).count();
            if all > 1 {
                let message = "only one partition of a disk can have size = \"all\"";
                return wrong("\"all\"", message.to_owned());
            }
        }
        Ok(drives)
    }

    /// The partition entry for `role`, wherever it is.
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.disk.iter().flat_map(|d| &d.partition).find(|p| p.label == role)
    }
}
