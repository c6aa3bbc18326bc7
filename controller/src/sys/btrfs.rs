//! Quotas of btrfs, which libbtrfsutil does not set.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// `struct btrfs_ioctl_quota_ctl_args` of `linux/btrfs.h`.
#[repr(C)]
struct QuotaCtl {
    cmd: u64,
    status: u64,
}

/// `BTRFS_QUOTA_CTL_ENABLE` of `linux/btrfs.h`.
const ENABLE: u64 = 1;

/// `struct btrfs_ioctl_qgroup_limit_args` of `linux/btrfs.h`; sizes in bytes.
#[repr(C)]
struct QgroupLimit {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// `BTRFS_QGROUP_LIMIT_MAX_RFER` of `linux/btrfs.h`: `max_rfer` counts.
const MAX_RFER: u64 = 1;

mod ioctl {
    use super::{QgroupLimit, QuotaCtl};

    // Numbers: linux/btrfs.h.
    nix::ioctl_readwrite!(quota_ctl, 0x94, 40, QuotaCtl);
    nix::ioctl_read!(qgroup_limit, 0x94, 43, QgroupLimit);
}

/// Makes the filesystem that `file` is on count what each of its subvolumes holds. Where it does already,
/// nothing changes.
///
/// # Errors
/// `EROFS` on a read-only mount, and those of the filesystem.
pub fn enable_quotas(file: impl AsFd) -> io::Result<()> {
    let mut arg = QuotaCtl { cmd: ENABLE, status: 0 };
    // SAFETY: `arg` has the kernel's layout and outlives the call.
    unsafe { ioctl::quota_ctl(file.as_fd().as_raw_fd(), &raw mut arg) }?;
    Ok(())
}

/// Limits the bytes that the files of the subvolume that `folder` is in may take, or lifts the limit.
///
/// # Errors
/// `ENOTCONN` where quotas are not enabled.
pub fn limit(folder: impl AsFd, bytes: Option<u64>) -> io::Result<()> {
    // Group 0 is that of the subvolume itself, and the largest number is no limit.
    let mut arg = QgroupLimit {
        qgroupid: 0,
        flags: MAX_RFER,
        max_rfer: bytes.unwrap_or(u64::MAX),
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    // SAFETY: `arg` has the kernel's layout and outlives the call.
    unsafe { ioctl::qgroup_limit(folder.as_fd().as_raw_fd(), &raw mut arg) }?;
    Ok(())
}
