//! Mounts, with errors that say what was being mounted where.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
pub use rustix::mount::UnmountFlags;
use rustix::mount::{mount_bind_recursive, mount_move, unmount as umount2};
use sys_mount::Mount;
pub use sys_mount::MountFlags;

/// Mounts `source` at `target`, which is made where it is missing.
pub fn mount(
    source: &Path,
    target: &Path,
    fstype: &str,
    flags: MountFlags,
    data: &str,
) -> Result<()> {
    fs::create_dir_all(target).ok();
    Mount::builder()
        .fstype(fstype)
        .flags(flags)
        .data(data)
        .mount(source, target)
        .map(drop)
        .with_context(|| {
            format!("mounting {} ({fstype}) at {}", source.display(), target.display())
        })
}

/// Mounts a kernel filesystem, such as `proc`, unless something is mounted there already.
pub fn mount_virtual(fstype: &str, target: &str, flags: MountFlags, data: &str) -> Result<()> {
    let target = Path::new(target);
    if is_mount_point(target) {
        return Ok(());
    }
    mount(Path::new(fstype), target, fstype, flags, data)
}

/// Moves the mount at `from` to `to`.
pub fn move_to(from: &Path, to: &Path) -> Result<()> {
    mount_move(from, to)
        .with_context(|| format!("moving the mount {} to {}", from.display(), to.display()))
}

/// Makes the directory `from` appear at `to` too.
pub fn bind(from: &Path, to: &Path) -> Result<()> {
    mount_bind_recursive(from, to)
        .with_context(|| format!("binding {} to {}", from.display(), to.display()))
}

/// Changes the flags of the filesystem at `target`, as for `mount -o remount,ro`.
pub fn remount(target: &Path, flags: MountFlags) -> Result<()> {
    let bits =
        rustix::mount::MountFlags::from_bits_retain(u32::try_from(flags.bits()).unwrap_or(0));
    rustix::mount::mount_remount(target, bits, "")
        .with_context(|| format!("remounting {}", target.display()))
}

/// Unmounts `target`.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<()> {
    umount2(target, flags).with_context(|| format!("unmounting {}", target.display()))
}

/// Whether `path` is on another filesystem than the directory that it lies in.
pub fn is_mount_point(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// All mount points, in the order in which they were mounted.
pub fn mount_points() -> Vec<PathBuf> {
    parse_mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Unmounts everything at and below `target`, the last mounted first, even where it is in use.
pub fn detach_below(target: &Path) -> Result<()> {
    for point in mount_points().iter().rev().filter(|p| p.starts_with(target)) {
        unmount(point, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The fifth field of each line, in which the kernel writes white space in octal:
/// <https://docs.kernel.org/filesystems/proc.html#proc-pid-mountinfo>.
fn parse_mountinfo(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| {
            let mut plain = path.to_owned();
            for (escaped, c) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            {
                plain = plain.replace(escaped, c);
            }
            PathBuf::from(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let text = "22 1 0:21 / /proc rw,nosuid - proc proc rw\n\
                    30 1 0:30 / /mnt/a\\040b rw - tmpfs none rw\nbroken\n";
        let expected = [PathBuf::from("/proc"), PathBuf::from("/mnt/a b")];
        assert_eq!(super::parse_mountinfo(text), expected);
    }
}
