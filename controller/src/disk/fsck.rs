//! Checking filesystems, and mending what can be mended without a person.

use std::path::Path;

use gse_protocol::config::drives::Filesystem;

use super::{
    mount::{self, Access, MountError, OpenSlot},
    tools::{Answer, ToolError, Tools},
};
use crate::log::Log;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FsckOutcome {
    /// Nothing to mend; the journal may have been replayed.
    Clean,
    /// Something was mended.
    Repaired,
    /// It cannot be mended without a person, or not at all: what the tool or kernel says.
    Damaged(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The tool is missing or cannot be started.
    #[error("checking {device}: {source}")]
    Tool {
        /// The partition.
        device: String,
        /// The reason.
        source: ToolError,
    },
    /// The tool was told nonsense, or was stopped.
    #[error("`{command}` found nothing out ({status}): {said}")]
    NoAnswer {
        /// The whole command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// The check left a mount behind.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Whether a mounted slot is known to be clean because it can be written: the quick look of
/// [`check_and_repair`] at XFS and btrfs. Then it is writable; else it must be unmounted for that.
pub fn proven_by_mount(slot: &mut OpenSlot<'_>, log: &Log) -> bool {
    if slot.filesystem() == Filesystem::Ext4 {
        return false;
    }
    let writable = slot.set_access(Access::ReadWrite);
    if let Err(e) = &writable {
        log.warn(e);
    }
    writable.is_ok()
}
/// How `btrfs rescue super-recover` says that a copy was good (`cmds/rescue-super-recover.c`).
const SUPERBLOCK_RECOVERED: i32 = 2;

/// How e2fsck says that there is no superblock that it could trust.
const NO_SUPERBLOCK: i32 = 8;

/// Where mke2fs puts the first copy of the superblock, for each size of blocks (e2fsck(8), `-b`). The kernel
/// writes the superblock in its place: on a disk with sectors of 512 bytes, a power cut can leave half of it.
const EXT4_BACKUPS: [[&str; 2]; 3] = [["32768", "4096"], ["8193", "1024"], ["16384", "2048"]];

/// Checks a filesystem that is not mounted. `scratch` is a folder to mount on meanwhile.
///
/// A clean filesystem costs one quick look. ext4 has a tool for that. XFS and btrfs are consistent after
/// a power cut by their making, and the kernel replays their logs at mount time, so the quick look is
/// a mount; their tools run when that fails, and mostly read the whole filesystem.
///
/// # Errors
/// No answer: the tool is missing (that of XFS or btrfs only when it is needed) or was stopped.
pub fn check_and_repair(
    device: &Path,
    filesystem: Filesystem,
    scratch: &Path,
    tools: &Tools,
    log: &Log,
) -> Result<FsckOutcome, FsckError> {
    let ask = |program, words: &[&str]| {
        let mut words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
        words.push(device.as_os_str());
        let failed = |source| FsckError::Tool { device: device.display().to_string(), source };
        tools.ask(program, &words, log).map_err(failed)
    };
    if filesystem == Filesystem::Ext4 {
        let answer = ask("e2fsck", &["-p"])?;
        if answer.status.code() == Some(NO_SUPERBLOCK) {
            for [block, size] in EXT4_BACKUPS {
                let again = ask("e2fsck", &["-p", "-b", block, "-B", size])?;
                if again.status.code() != Some(NO_SUPERBLOCK) {
                    return judge_e2fsck(again);
                }
            }
        }
        return judge_e2fsck(answer);
    }
    let Err(mount) = try_mount(device, filesystem, scratch, log)? else {
        return Ok(FsckOutcome::Clean);
    };
    log.warn(format_args!("{} cannot be mounted, so it is checked: {mount}", device.display()));
    match filesystem {
        // Without -L: throwing away a log that cannot be replayed loses what was written last, and
        // there is another slot, or the server.
        Filesystem::Xfs => {
            let answer = ask("xfs_repair", &[])?;
            if !answer.status.success() {
                return Ok(FsckOutcome::Damaged(format!("{mount}; {}", summary(&answer))));
            }
            Ok(match try_mount(device, filesystem, scratch, log)? {
                Ok(()) => FsckOutcome::Repaired,
                Err(again) => FsckOutcome::Damaged(again),
            })
        }
        // btrfs-check(8): --repair is for developers. A copy of the superblock is another matter.
        Filesystem::Btrfs => {
            let answer = ask("btrfs", &["rescue", "super-recover", "-y"])?;
            if answer.status.code() == Some(SUPERBLOCK_RECOVERED)
                && try_mount(device, filesystem, scratch, log)?.is_ok()
            {
                return Ok(FsckOutcome::Repaired);
            }
            let answer = ask("btrfs", &["check", "--readonly"])?;
            Ok(FsckOutcome::Damaged(format!("{mount}; {}", summary(&answer))))
        }
        Filesystem::Ext4 => Ok(FsckOutcome::Damaged(mount)),
    }
}

/// Mounts it for writing, which replays the log, and unmounts it. The inner error is the kernel's.
fn try_mount(
    device: &Path,
    filesystem: Filesystem,
    scratch: &Path,
    log: &Log,
) -> Result<Result<(), String>, FsckError> {
    match mount::mount_top(device, filesystem, scratch, Access::ReadWrite, log) {
        Ok(mounted) => Ok(Ok(mounted.unmount().map_err(MountError::from)?)),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// e2fsck(8), "Exit code": a sum of 1 mended, 2 mended and reboot, 4 errors left, 8 operational error, 16
/// usage, 32 cancelled, 128 shared library. 8 is also how it says that there is no superblock.
fn judge_e2fsck(answer: Answer) -> Result<FsckOutcome, FsckError> {
    match answer.status.code() {
        Some(0) => Ok(FsckOutcome::Clean),
        Some(1..=3) => Ok(FsckOutcome::Repaired),
        Some(code @ 4..16) if code & 12 != 0 => Ok(FsckOutcome::Damaged(summary(&answer))),
        _ => Err(FsckError::NoAnswer {
            status: answer.status.to_string(),
            command: answer.command,
            said: answer.said,
        }),
    }
}

/// The last lines are where tools say what matters.
fn summary(answer: &Answer) -> String {
    let lines: Vec<_> = answer.said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ");
    format!("`{}` ({}): {tail}", answer.command, answer.status)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    #[test]
    fn exit_codes_of_e2fsck_are_what_its_manual_says() {
        let judge = |code| {
            judge_e2fsck(Answer {
                command: "e2fsck -p /dev/vda2".to_owned(),
                status: ExitStatus::from_raw(code << 8),
                said: "RUN fsck MANUALLY".to_owned(),
            })
        };
        assert_eq!(judge(0).unwrap(), FsckOutcome::Clean);
        for code in [1, 2, 3] {
            assert_eq!(judge(code).unwrap(), FsckOutcome::Repaired, "{code}");
        }
        for code in [4, 5, 8, 12] {
            assert!(matches!(judge(code).unwrap(), FsckOutcome::Damaged(_)), "{code}");
        }
        for code in [16, 32, 128] {
            assert!(matches!(judge(code), Err(FsckError::NoAnswer { .. })), "{code}");
        }
    }
}
