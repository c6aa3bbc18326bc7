//! Block devices and labels of mounted filesystems.

use std::{
    ffi::{c_char, c_int, c_longlong, c_void},
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Size of the label buffer: `FSLABEL_MAX` of `linux/fs.h`, the final NUL included.
const FSLABEL_MAX: usize = 256;

/// `BLKPG_ADD_PARTITION` of `linux/blkpg.h`.
const BLKPG_ADD_PARTITION: c_int = 1;

/// `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
#[repr(C)]
struct BlkpgArg {
    op: c_int,
    flags: c_int,
    datalen: c_int,
    data: *mut c_void,
}

/// `struct blkpg_partition` of `linux/blkpg.h`; offsets in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    pno: c_int,
    devname: [c_char; 64],
    volname: [c_char; 64],
}

mod ioctl {
    use super::{BlkpgArg, FSLABEL_MAX};

    // Numbers: linux/fs.h. BLKRRPART and BLKPG are older than the direction bits.
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(0x12, 105), BlkpgArg);
    nix::ioctl_read!(fs_ioc_getfslabel, 0x94, 49, [u8; FSLABEL_MAX]);
    nix::ioctl_write_ptr!(fs_ioc_setfslabel, 0x94, 50, [u8; FSLABEL_MAX]);
}

/// Makes the kernel forget the partitions of a disk and read its table again.
///
/// # Errors
/// `EBUSY` while any partition of it is in use; `EINVAL` for a disk that has no partitions.
pub fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: the ioctl takes no argument, and the descriptor is open for the call.
    unsafe { ioctl::blkrrpart(disk.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// Tells the kernel about one partition, whatever else of the disk is in use.
///
/// `start` and `length` are in bytes.
///
/// # Errors
/// `EBUSY` if the number is taken or the range overlaps a partition that the kernel knows.
pub fn add_partition(disk: impl AsFd, number: u32, start: u64, length: u64) -> io::Result<()> {
    let out_of_range = || io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(|_| out_of_range())?,
        length: length.try_into().map_err(|_| out_of_range())?,
        pno: number.try_into().map_err(|_| out_of_range())?,
        devname: [0; 64],
        volname: [0; 64],
    };
    let arg = BlkpgArg {
        op: BLKPG_ADD_PARTITION,
        flags: 0,
        datalen: size_of::<BlkpgPartition>() as c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: `arg` and what it points to outlive the call, have the kernel's layout, and `datalen` is
    // the size of what `data` points to.
    unsafe { ioctl::blkpg(disk.as_fd().as_raw_fd(), &raw const arg) }?;
    Ok(())
}

/// The label of the mounted filesystem that `file` is on: btrfs, XFS, and ext4 from Linux 5.17.
///
/// # Errors
/// `ENOTTY` where the filesystem or the kernel cannot tell.
pub fn label(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut buffer = [0; FSLABEL_MAX];
    // SAFETY: the kernel writes at most FSLABEL_MAX bytes, which is what the buffer has.
    unsafe { ioctl::fs_ioc_getfslabel(file.as_fd().as_raw_fd(), &raw mut buffer) }?;
    Ok(buffer.into_iter().take_while(|byte| *byte != 0).collect())
}

/// Gives the mounted filesystem that `file` is on another label.
///
/// # Errors
/// `EROFS` on a read-only mount, `EINVAL` for a label that is too long for the filesystem, `ENOTTY`
/// where the filesystem or the kernel cannot do it.
pub fn set_label(file: impl AsFd, label: &str) -> io::Result<()> {
    let mut buffer = [0; FSLABEL_MAX];
    // The last byte stays NUL.
    if label.len() >= buffer.len() || label.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in buffer.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    // SAFETY: the kernel reads FSLABEL_MAX bytes, which is what the buffer has, the last of them NUL.
    unsafe { ioctl::fs_ioc_setfslabel(file.as_fd().as_raw_fd(), &raw const buffer) }?;
    Ok(())
}
