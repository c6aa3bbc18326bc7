//! The slots of a machine, and the labels that say what each of them is for.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use gse_protocol::config::drives::{Filesystem, Role};

use super::{
    content::{Content, FsInfo},
    probe::{BlockDevice, Holds, Partition},
};

/// The label of a filesystem of ours: section 3 of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// The system to boot.
    SysFs,
    /// The last system that completed a healthy cycle.
    BackupFs,
    /// A system that failed its cycle.
    Deprived,
    /// Being written.
    Incoming,
    /// Kernels, the kept configuration, logs.
    BootFs,
    /// The users' data.
    UserDataFs,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SysFs,
        Self::BackupFs,
        Self::Deprived,
        Self::Incoming,
        Self::BootFs,
        Self::UserDataFs,
    ];

    /// As it is written on the filesystem.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SysFs => "SYSFS",
            Self::BackupFs => "BACKUPFS",
            Self::Deprived => "DEPRIVED",
            Self::Incoming => "INCOMING",
            Self::BootFs => "BOOTFS",
            Self::UserDataFs => "USERDATAFS",
        }
    }

    /// Whether only a slot has it.
    pub fn is_slot(self) -> bool {
        !matches!(self, Self::BootFs | Self::UserDataFs)
    }

    /// Whether a partition of this role can have it. Labels move between slots.
    pub fn fits(self, role: Role) -> bool {
        match role {
            Role::System | Role::Backup => self.is_slot(),
            Role::Boot => self == Self::BootFs,
            Role::UserData => self == Self::UserDataFs,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A label that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of the labels that slots have")]
pub struct UnknownLabel(String);

impl FromStr for Label {
    type Err = UnknownLabel;

    fn from_str(text: &str) -> Result<Self, UnknownLabel> {
        let found = Self::ALL.into_iter().find(|label| label.as_str() == text);
        found.ok_or_else(|| UnknownLabel(text.to_owned()))
    }
}

/// A partition that can hold a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its device node.
    pub device: PathBuf,
    /// In bytes.
    pub size: u64,
    /// What it holds.
    pub state: SlotState,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotState {
    /// Nothing: it was just made.
    Blank,
    /// A filesystem of a type that slots can have.
    Formatted {
        /// Its type.
        filesystem: Filesystem,
        /// Its label, if that is one of a slot.
        label: Option<Label>,
        /// Its UUID.
        uuid: Option<String>,
    },
    /// Something that no system can be booted from: a sentence.
    Foreign(String),
}

impl Slot {
    /// Its label, if it has one of a slot.
    pub fn label(&self) -> Option<Label> {
        match &self.state {
            SlotState::Formatted { label, .. } => *label,
            SlotState::Blank | SlotState::Foreign(_) => None,
        }
    }

    /// Its filesystem, if that is of a type that slots can have.
    pub fn filesystem(&self) -> Option<Filesystem> {
        match &self.state {
            SlotState::Formatted { filesystem, .. } => Some(*filesystem),
            SlotState::Blank | SlotState::Foreign(_) => None,
        }
    }
}

/// BOOTFS or USERDATAFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What it is for.
    pub role: Role,
    /// Its device node.
    pub device: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Its filesystem; none where it has yet to be made.
    pub filesystem: Option<FsInfo>,
}

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// In the order of the disks and their partitions.
    pub slots: Vec<Slot>,
    /// BOOTFS.
    pub boot: Option<Place>,
    /// USERDATAFS.
    pub userdata: Option<Place>,
    /// Filesystems with our labels that were left out, as they are not on the configured disks.
    pub ignored: Vec<PathBuf>,
}

impl Found {
    /// All slots with this label: none, one, or several after a power cut between two label writes.
    pub fn labelled(&self, label: Label) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.label() == Some(label))
    }
}

/// Why the slots are not certain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// BOOTFS or USERDATAFS is there twice.
    #[error(
        "{label} is there twice, on {} and {}: disconnect one of the disks, or change the label that \
         is not meant",
        .first.display(), .second.display()
    )]
    Twice {
        /// Which.
        label: Label,
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Two slots hold the same filesystem: one of the disks is a copy of the other.
    #[error(
        "{} and {} hold the same filesystem (UUID {uuid}), so one is a copy of the other, made with dd or the \
         like: disconnect one of the disks",
        .first.display(), .second.display()
    )]
    Copied {
        /// Of both.
        uuid: String,
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The partition holds what it should not.
    #[error("{}, the partition for {label}, cannot be used: {why}", .device.display())]
    Unusable {
        /// Which.
        label: Label,
        /// The partition.
        device: PathBuf,
        /// The reason.
        why: String,
    },
}

/// A partition, or a whole disk without a table, that claims to be ours.
struct Claim<'d> {
    role: Role,
    device: &'d Path,
    size: u64,
    content: Content,
    configured: bool,
    portable: bool,
}

/// The slots, BOOTFS and USERDATAFS among `disks`.
///
/// Ours are partitions named `gse-…` and filesystems with one of our labels. `configured` are the paths
/// of the disks that `drives.toml` means: as soon as one of those has anything of ours, the other disks
/// do not count (a stick with a filesystem called SYSFS must not become a lab machine's system).
/// Without any, the machine's own disks win over those that can be taken out, and those on USB.
///
/// # Errors
/// BOOTFS or USERDATAFS twice, or unusable; one filesystem in two slots. A label twice among the slots is no
/// error: that is a state between two label writes, and deciding about it is for those who know the records.
pub fn find(disks: &[BlockDevice], configured: &[PathBuf]) -> Result<Found, SlotError> {
    let mut claims: Vec<Claim<'_>> =
        disks.iter().flat_map(|disk| claims(disk, configured.contains(&disk.path))).collect();
    let mut found = Found::default();
    // The first of these that holds for anything decides.
    let preferences = [|c: &Claim<'_>| c.configured, |c: &Claim<'_>| !c.portable];
    if let Some(better) = preferences.into_iter().find(|better| claims.iter().any(better)) {
        found.ignored.extend(claims.iter().filter(|c| !better(c)).map(|c| c.device.to_owned()));
        claims.retain(better);
    }
    for claim in claims {
        match claim.role {
            Role::System | Role::Backup => found.slots.push(claim.slot()),
            Role::Boot => settle(&mut found.boot, claim.place(Label::BootFs)?, Label::BootFs)?,
            Role::UserData => {
                settle(&mut found.userdata, claim.place(Label::UserDataFs)?, Label::UserDataFs)?;
            }
        }
    }
    match copied(&found.slots) {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// Which of two slots with one UUID is meant, nobody can tell: the kernel neither, which mixes up the devices of a
/// btrfs by it.
fn copied(slots: &[Slot]) -> Option<SlotError> {
    let mut seen = BTreeMap::new();
    slots.iter().find_map(|slot| {
        let SlotState::Formatted { uuid: Some(uuid), .. } = &slot.state else { return None };
        let first: &Slot = seen.insert(uuid, slot)?;
        let (first, second) = (first.device.clone(), slot.device.clone());
        Some(SlotError::Copied { uuid: uuid.clone(), first, second })
    })
}

fn settle(place: &mut Option<Place>, new: Place, label: Label) -> Result<(), SlotError> {
    match place {
        Some(old) => Err(SlotError::Twice { label, first: old.device.clone(), second: new.device }),
        None => {
            *place = Some(new);
            Ok(())
        }
    }
}

fn claims(disk: &BlockDevice, configured: bool) -> Vec<Claim<'_>> {
    let claim = |role, device, size, content: &Content| Claim {
        role,
        device,
        size,
        content: content.clone(),
        configured,
        portable: disk.is_portable(),
    };
    if let Holds::Filesystem(info) = &disk.holds {
        let content = Content::Filesystem(info.clone());
        let role = labelled_role(info);
        return role.map(|role| claim(role, &disk.path, disk.size, &content)).into_iter().collect();
    }
    disk.partitions
        .iter()
        .filter_map(|p| Some(claim(role(p)?, p.path.as_deref()?, p.size, &p.content)))
        .collect()
}

/// Whether anything on a disk has a name or label of ours.
pub(super) fn has_ours(disk: &BlockDevice) -> bool {
    match &disk.holds {
        Holds::Filesystem(info) => labelled_role(info).is_some(),
        _ => disk.partitions.iter().any(|p| role(p).is_some()),
    }
}

fn role(partition: &Partition) -> Option<Role> {
    named_role(partition).or_else(|| match &partition.content {
        Content::Filesystem(info) => labelled_role(info),
        _ => None,
    })
}

fn named_role(partition: &Partition) -> Option<Role> {
    let name = &partition.gpt.as_ref()?.name;
    [Role::Boot, Role::System, Role::Backup, Role::UserData]
        .into_iter()
        .find(|role| role.partition_name() == name)
}

fn labelled_role(info: &FsInfo) -> Option<Role> {
    match info.label.as_deref()?.parse().ok()? {
        Label::BootFs => Some(Role::Boot),
        Label::UserDataFs => Some(Role::UserData),
        Label::SysFs | Label::BackupFs | Label::Deprived | Label::Incoming => Some(Role::System),
    }
}

impl Claim<'_> {
    fn slot(self) -> Slot {
        let state = match self.content {
            Content::Blank => SlotState::Blank,
            Content::Filesystem(info) => match info.filesystem() {
                Some(filesystem) => {
                    let label = info.label.and_then(|label| label.parse().ok());
                    let label = label.filter(|label: &Label| label.is_slot());
                    SlotState::Formatted { filesystem, label, uuid: info.uuid }
                }
                None => SlotState::Foreign(info.to_string()),
            },
            Content::Table(kind) => SlotState::Foreign(format!("a partition table ({kind})")),
            Content::Unclear(why) => SlotState::Foreign(why),
        };
        Slot { device: self.device.to_owned(), size: self.size, state }
    }

    fn place(self, label: Label) -> Result<Place, SlotError> {
        let device = self.device.to_owned();
        let filesystem = match self.content {
            Content::Blank => None,
            Content::Filesystem(info) => Some(info),
            Content::Table(kind) => {
                let why = format!("it holds a partition table ({kind})");
                return Err(SlotError::Unusable { label, device, why });
            }
            Content::Unclear(why) => return Err(SlotError::Unusable { label, device, why }),
        };
        Ok(Place { role: self.role, device, size: self.size, filesystem })
    }
}
