//! What has to happen to the disks so that they have the partitions of `drives.toml`.
//!
//! Pure: disks as they were probed go in, a plan comes out. A plan adds partitions in free space, and sets flags. It
//! never moves or grows one, and it touches nothing else than GUID partition tables; unless the configuration gives up what
//! a disk holds, and nothing on it is ours.

use std::{fmt, path::PathBuf};

use gse_protocol::config::drives::{self, Drives, Extent, Filesystem, Role};

use super::{
    Bytes,
    choose::{ChoiceError, choose, named},
    content::Content,
    layout::{self, NoRoom, Run, Want},
    probe::{BlockDevice, Gpt, Holds, Partition},
    slots::Label,
    table::Flaw,
};

/// Partitions start and end at multiples of this many bytes: a multiple of every sector size, and of the
/// pages and erase blocks of nearly every SSD and RAID.
pub const ALIGNMENT: u64 = 1 << 20;

/// Entries in a table that is made new, and the sectors that one copy of it takes with 512-byte sectors
/// (32) or 4096-byte ones (4) follow from it.
const NEW_ENTRIES: u32 = 128;

/// The plan for one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPlan {
    /// The disk.
    pub disk: PathBuf,
    /// Bytes in its logical sectors, which all sector numbers of the plan count.
    pub sector: u64,
    /// The partitions that are there already.
    pub present: Vec<Present>,
    /// What a person should know, though nothing is done about it.
    pub warnings: Vec<Warning>,
    /// What is to be done, in this order; empty if the disk is as it should be.
    pub steps: Vec<Step>,
}

/// A partition that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What it is for.
    pub role: Role,
    /// Its number; none for a filesystem on the whole disk.
    pub number: Option<u32>,
    /// Its device node; none where the kernel does not know the partition yet.
    pub device: Option<PathBuf>,
}

/// A partition to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartition {
    /// What it is for; its name in the table follows from it.
    pub role: Role,
    /// Its number in the table, from 1.
    pub number: u32,
    /// The sectors that it takes.
    pub run: Run,
    /// Its flags.
    pub attributes: u64,
}

/// Where the table that is written comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The disk is blank: a new table.
    Blank,
    /// The table that is there; its partitions stay as they are.
    Existing,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Zeros over both ends of a free range, so that what an earlier filesystem left there is not found
    /// in the partition that comes there. This goes before the table: a partition of ours that has a
    /// signature has been formatted by us, in whatever moment the power fails.
    ClearEnds(Run),
    /// Zeros over both ends of the whole disk, whose content is given up: nothing finds a table there any more.
    Empty,
    /// Both copies of the table, the one at the disk's end first, then the protective MBR.
    WriteTable {
        /// What it is made from.
        base: Base,
        /// What is added.
        add: Vec<NewPartition>,
        /// Numbers of partitions that are there, with the flags that they get.
        flags: Vec<(u32, u64)>,
    },
    /// The kernel is told of partitions that it does not know.
    TellKernel,
}

/// What a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A partition is smaller than configured, and stays so.
    Smaller {
        /// What it is for.
        role: Role,
        /// Its size.
        is: Bytes,
        /// Its size by `drives.toml`.
        wanted: Bytes,
    },
    /// The partition table is damaged; the plan repairs it.
    Damaged(PathBuf, Flaw),
    /// The disk's content is given up, because the configuration says so.
    Taken(String, String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smaller { role, is, wanted } => write!(
                f,
                "the partition for {} has {is}, and controller/drives.toml asks for {wanted}: it \
                 stays as it is, because partitions in use are not resized",
                role.label()
            ),
            Self::Damaged(disk, flaw) => {
                write!(f, "the partition table of {}: {flaw}; it is written anew", disk.display())
            }
            Self::Taken(disk, what) => {
                write!(
                    f,
                    "{disk} held {what}, and is taken: controller/drives.toml says take = true"
                )
            }
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// It is not certain which disk is meant.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The disk refuses writes.
    #[error(
        "{0} is read-only: is it write-protected by a switch or its firmware? Otherwise name another \
         disk in controller/drives.toml"
    )]
    ReadOnly(String),
    /// The disk holds something else.
    #[error(
        "{disk} holds {what}. The controller adds partitions to blank disks and to GUID partition \
         tables only: name another disk in controller/drives.toml or, if nothing on this one is \
         needed, empty it with `wipefs --all {}` and start the machine again",
        .path.display()
    )]
    Foreign {
        /// The disk as a person knows it.
        disk: String,
        /// Its device.
        path: PathBuf,
        /// What is on it.
        what: String,
    },
    /// The disk cannot be judged.
    #[error(
        "{disk} is left alone, because it is not clear what it holds: {why}. Mend it by hand, name \
         another disk in controller/drives.toml or, if nothing on this one is needed, empty it with \
         `wipefs --all {}`",
        .path.display()
    )]
    Unclear {
        /// The disk as a person knows it.
        disk: String,
        /// Its device.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// There is no room.
    #[error(
        "{disk} is too small: {} need {needed}, and {free} are free there (the largest piece: \
         {largest}). Make the partitions in controller/drives.toml smaller, remove others from the \
         disk, or name another disk",
        .roles.join(", ")
    )]
    NoRoom {
        /// The disk as a person knows it.
        disk: String,
        /// The partitions that are missing, by their labels.
        roles: Vec<&'static str>,
        /// What they need.
        needed: Bytes,
        /// What there is.
        free: Bytes,
        /// The largest piece of it.
        largest: Bytes,
    },
    /// The partition is on another disk.
    #[error(
        "{} is on {} already, and controller/drives.toml asks for it on {disk}: name the disk that it is on, or move \
         it by hand (then remove the old partition)",
        .role.label(), .device.display()
    )]
    Elsewhere {
        /// The partition.
        role: Role,
        /// Where it is.
        device: PathBuf,
        /// Where it should be, as a person knows it.
        disk: String,
    },
    /// The table is full.
    #[error("the partition table of {0} has no entry left: remove a partition from it")]
    TableFull(String),
    /// A size that no mkfs takes.
    #[error(
        "{} of controller/drives.toml has {size}, and {filesystem} needs at least {least}",
        .role.label()
    )]
    TooSmall {
        /// The partition.
        role: Role,
        /// Its size by `drives.toml`.
        size: Bytes,
        /// Its filesystem.
        filesystem: Filesystem,
        /// What that needs.
        least: Bytes,
    },
}

/// The smallest partition that a filesystem can be made in, in bytes: what mkfs.xfs 5.19 and
/// mkfs.btrfs 6 enforce, rounded up.
pub fn least_size(filesystem: Filesystem) -> u64 {
    match filesystem {
        Filesystem::Xfs => 300 << 20,
        Filesystem::Btrfs => 128 << 20,
        Filesystem::Ext4 => 8 << 20,
    }
}

/// A plan for each `[[disk]]`.
///
/// # Errors
/// A disk that is not there or not certain, that holds something else, or that is too small. Then no
/// disk should be touched.
pub fn plan(drives: &Drives, disks: &[BlockDevice]) -> Result<Vec<PartitionPlan>, DriveError> {
    let chosen = choose(drives, disks)?;
    chosen.into_iter().map(|(entry, disk)| plan_disk(entry, disk, disks)).collect()
}

fn plan_disk(
    entry: &drives::Disk,
    disk: &BlockDevice,
    disks: &[BlockDevice],
) -> Result<PartitionPlan, DriveError> {
    if disk.read_only {
        return Err(DriveError::ReadOnly(disk.describe()));
    }
    if let Holds::Unclear(why) = &disk.holds {
        let (path, why) = (disk.path.clone(), why.clone());
        return Err(DriveError::Unclear { disk: disk.describe(), path, why });
    }
    let mut plan = PartitionPlan {
        disk: disk.path.clone(),
        sector: disk.logical_sector,
        present: Vec::new(),
        warnings: Vec::new(),
        steps: Vec::new(),
    };
    let missing = find_present(entry, disk, &mut plan);
    let others = disks.iter().filter(|other| other.path != disk.path && !other.removable);
    check_elsewhere(&missing, disk, others)?;
    let done = match &disk.holds {
        Holds::Gpt(gpt) => extend(&mut plan, entry, disk, gpt, &missing),
        Holds::Nothing if !missing.is_empty() => begin(&mut plan, disk, &missing),
        _ if missing.is_empty() => Ok(()),
        Holds::Table(kind) => Err(foreign(disk, format!("a partition table of the kind {kind:?}"))),
        Holds::Filesystem(info) => {
            Err(foreign(disk, format!("a filesystem without a partition table: {info}")))
        }
        // Handled above.
        Holds::Nothing | Holds::Unclear(_) => Ok(()),
    };
    let Err(error) = done else { return Ok(plan) };
    let Some(what) = worthless(entry, disk, &error) else { return Err(error) };
    plan.warnings = vec![Warning::Taken(disk.describe(), what)];
    plan.steps = vec![Step::Empty];
    begin(&mut plan, disk, &missing)?;
    Ok(plan)
}

fn foreign(disk: &BlockDevice, what: String) -> DriveError {
    DriveError::Foreign { disk: disk.describe(), path: disk.path.clone(), what }
}

/// What is on a disk that may be given up for the configuration's partitions: what is in their way, where the
/// configuration says so, and where nothing has a name or label of ours.
fn worthless(entry: &drives::Disk, disk: &BlockDevice, error: &DriveError) -> Option<String> {
    let labelled = |content: &Content| match content {
        Content::Filesystem(info) => {
            info.label.as_deref().is_some_and(|label| label.parse::<Label>().is_ok())
        }
        _ => false,
    };
    // What cannot be read may be ours: nor are all tables known to each kernel.
    let whole = match &disk.holds {
        Holds::Filesystem(info) => labelled(&Content::Filesystem(info.clone())),
        Holds::Table(_) => disk.partitions.is_empty(),
        _ => false,
    };
    let ours = |p: &Partition| {
        p.is_ours() || labelled(&p.content) || matches!(p.content, Content::Unclear(_))
    };
    if !entry.take || whole || disk.partitions.iter().any(ours) {
        return None;
    }
    match error {
        DriveError::Foreign { what, .. } => Some(what.clone()),
        DriveError::NoRoom { .. } | DriveError::TableFull(_) => {
            Some(format!("{} partitions of others", disk.partitions.len()))
        }
        _ => None,
    }
}

/// A second partition of the same name would leave nobody certain which one is meant.
fn check_elsewhere<'d>(
    missing: &[&drives::Partition],
    disk: &BlockDevice,
    others: impl Iterator<Item = &'d BlockDevice> + Clone,
) -> Result<(), DriveError> {
    for wanted in missing.iter().filter(|wanted| !wanted.label.is_slot()) {
        let role = wanted.label;
        let is_it = |other: &BlockDevice, p: &Partition| {
            named(other, role).any(|named| named.number == p.number)
                || has_label_for(&p.content, role)
        };
        for other in others.clone() {
            if let Some(found) = other.partitions.iter().find(|p| is_it(other, p)) {
                let device = other.partition_path(found.number);
                return Err(DriveError::Elsewhere { role, device, disk: disk.describe() });
            }
        }
    }
    Ok(())
}

/// The first table of a disk.
fn begin(
    plan: &mut PartitionPlan,
    disk: &BlockDevice,
    missing: &[&drives::Partition],
) -> Result<(), DriveError> {
    let add = add(disk, &[], &new_gpt(disk), missing)?;
    write(plan, Base::Blank, add, Vec::new());
    Ok(())
}

/// Notes the partitions that are there, by name, or by label on disks that were set up by hand, and
/// returns those that are missing.
fn find_present<'e>(
    entry: &'e drives::Disk,
    disk: &BlockDevice,
    plan: &mut PartitionPlan,
) -> Vec<&'e drives::Partition> {
    let mut by_label: Vec<&Partition> = disk.partitions.iter().collect();
    by_label.retain(|p| !p.is_ours());
    let mut missing = Vec::new();
    for wanted in &entry.partition {
        let role = wanted.label;
        let found = named(disk, role).next().or_else(|| {
            let at = by_label.iter().position(|p| has_label_for(&p.content, role))?;
            Some(by_label.remove(at))
        });
        let (present, size) = match (found, &disk.holds) {
            (Some(p), _) => {
                (Present { role, number: Some(p.number), device: p.path.clone() }, p.size)
            }
            (None, Holds::Filesystem(info))
                if has_label_for(&Content::Filesystem(info.clone()), role)
                    && plan.present.is_empty() =>
            {
                (Present { role, number: None, device: Some(disk.path.clone()) }, disk.size)
            }
            _ => {
                missing.push(wanted);
                continue;
            }
        };
        plan.present.push(present);
        if let Extent::Exactly(wanted) = wanted.size
            && size < wanted.0
        {
            plan.warnings.push(Warning::Smaller { role, is: Bytes(size), wanted: Bytes(wanted.0) });
        }
    }
    missing
}

/// Whether a filesystem has a label that a partition of this role can have. Labels move between slots.
fn has_label_for(content: &Content, role: Role) -> bool {
    let Content::Filesystem(info) = content else { return false };
    let label = info.label.as_deref().and_then(|label| label.parse::<Label>().ok());
    label.is_some_and(|label| label.fits(role))
}

/// The table that a blank disk gets: the usual 128 entries of 128 bytes, in both copies.
fn new_gpt(disk: &BlockDevice) -> Gpt {
    let sector = disk.logical_sector.max(1);
    let array = (u64::from(NEW_ENTRIES) * 128).div_ceil(sector);
    Gpt {
        first_lba: 2 + array,
        last_lba: (disk.size / sector).saturating_sub(array + 2),
        entries: NEW_ENTRIES,
        flaws: Vec::new(),
    }
}

fn extend(
    plan: &mut PartitionPlan,
    entry: &drives::Disk,
    disk: &BlockDevice,
    gpt: &Gpt,
    missing: &[&drives::Partition],
) -> Result<(), DriveError> {
    let add = add(disk, &disk.partitions, gpt, missing)?;
    let damaged = |flaw: &Flaw| Warning::Damaged(disk.path.clone(), flaw.clone());
    plan.warnings.extend(gpt.flaws.iter().map(damaged));
    let flags = other_flags(entry, disk, &plan.present);
    if !add.is_empty() || !flags.is_empty() || !gpt.flaws.is_empty() {
        write(plan, Base::Existing, add, flags);
    } else if plan.present.iter().any(|p| p.device.is_none()) {
        plan.steps.push(Step::TellKernel);
    }
    Ok(())
}

/// The partitions that are there, and have other flags than the configuration gives them.
fn other_flags(entry: &drives::Disk, disk: &BlockDevice, present: &[Present]) -> Vec<(u32, u64)> {
    let wanted = |role| entry.partition.iter().find(|p| p.label == role)?.flags.0;
    let is = |number| {
        let found = disk.partitions.iter().find(|p| p.number == number)?;
        found.gpt.as_ref().map(|gpt| gpt.attributes)
    };
    let pairs = present.iter().filter_map(|p| Some((p.number?, wanted(p.role)?)));
    pairs.filter(|(number, bits)| is(*number) != Some(*bits)).collect()
}

fn write(plan: &mut PartitionPlan, base: Base, add: Vec<NewPartition>, flags: Vec<(u32, u64)>) {
    plan.steps.extend(add.iter().map(|new| Step::ClearEnds(new.run)));
    plan.steps.extend([Step::WriteTable { base, add, flags }, Step::TellKernel]);
}

/// A number and a place beside `others` for each missing partition.
fn add(
    disk: &BlockDevice,
    others: &[Partition],
    gpt: &Gpt,
    missing: &[&drives::Partition],
) -> Result<Vec<NewPartition>, DriveError> {
    let sector = disk.logical_sector.max(1);
    let align = (ALIGNMENT.max(disk.physical_sector) / sector).max(1);
    let wants =
        missing.iter().map(|wanted| want(wanted, sector, align)).collect::<Result<Vec<_>, _>>()?;
    let used: Vec<_> = others
        .iter()
        .map(|p| (p.start / sector, ((p.start + p.size).div_ceil(sector)).saturating_sub(1)))
        .collect();
    let runs = layout::free_runs(gpt.first_lba, gpt.last_lba, &used, align);
    let bytes = |sectors: u64| Bytes(sectors.saturating_mul(sector));
    let runs = layout::place(runs, &wants).map_err(|NoRoom { needed, free, largest }| {
        DriveError::NoRoom {
            disk: disk.describe(),
            roles: missing.iter().map(|p| p.label.label()).collect(),
            needed: bytes(needed),
            free: bytes(free),
            largest: bytes(largest),
        }
    })?;
    let taken = |number: &u32| others.iter().any(|p| p.number == *number);
    let numbers: Vec<u32> = (1..=gpt.entries).filter(|n| !taken(n)).take(missing.len()).collect();
    if numbers.len() < missing.len() {
        return Err(DriveError::TableFull(disk.describe()));
    }
    let new = missing.iter().zip(numbers).zip(runs);
    let new = new.map(|((p, number), run)| NewPartition {
        role: p.label,
        number,
        run,
        attributes: p.flags.0.unwrap_or_default(),
    });
    Ok(new.collect())
}

fn want(wanted: &drives::Partition, sector: u64, align: u64) -> Result<Want, DriveError> {
    let least = least_size(wanted.filesystem);
    let sectors = |bytes: u64| {
        let aligned = bytes.div_ceil(sector).checked_next_multiple_of(align);
        aligned.unwrap_or(u64::MAX)
    };
    match wanted.size {
        Extent::All => Ok(Want::Rest(sectors(least))),
        Extent::Exactly(size) if size.0 < least => Err(DriveError::TooSmall {
            role: wanted.label,
            size: Bytes(size.0),
            filesystem: wanted.filesystem,
            least: Bytes(least),
        }),
        Extent::Exactly(size) => Ok(Want::Exactly(sectors(size.0))),
    }
}
