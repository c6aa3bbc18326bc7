//! Directories in memory: how large each may grow, and what is in them at first.

use std::path::Path;

use anyhow::{Context as _, Result};
use gse_protocol::config::mounts::Tmpfs;

use super::{archive, target};
use crate::{
    copy::copy_content,
    disk::Bytes,
    log::{Log, reason},
    mount::{self, MountFlags, STAGE, UnmountFlags},
};

/// What no directory in memory is smaller than.
const LEAST: u64 = 1 << 20;

/// The memory of this machine in bytes.
pub(super) fn installed() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram as _)
}

/// How many bytes each may take on a machine with so much memory. Together they take three quarters at most, so that
/// a machine on which somebody fills all of them still runs. Sizes of the configuration are kept as far as that allows; those
/// without one share what is left, but at least an eighth.
pub(super) fn sizes(all: &[Tmpfs], memory: u64) -> Vec<u64> {
    let most = memory / 4 * 3;
    let unsized_ones = all.iter().filter(|tmpfs| tmpfs.size.is_none()).count() as u64;
    let asked = all
        .iter()
        .filter_map(|tmpfs| tmpfs.size)
        .fold(0_u64, |sum, size| sum.saturating_add(size.0));
    let for_sized = if unsized_ones == 0 { most } else { most - memory / 8 };
    let left = most.saturating_sub(asked).max(most - for_sized);
    let share = left.checked_div(unsized_ones).unwrap_or(0);
    let size = |tmpfs: &Tmpfs| match tmpfs.size {
        // In proportion: 128 bits hold the product of any two sizes.
        Some(size) if asked > for_sized => {
            let part = u128::from(size.0) * u128::from(for_sized) / u128::from(asked.max(1));
            u64::try_from(part).unwrap_or(for_sized)
        }
        Some(size) => size.0,
        None => share,
    };
    all.iter().map(|tmpfs| size(tmpfs).max(LEAST)).collect()
}

/// Mounts one, which may take `size` bytes.
pub(super) fn mount(root: &Path, tmpfs: &Tmpfs, size: u64, log: &Log) -> Result<()> {
    if let Some(asked) = tmpfs.size.filter(|asked| asked.0 > size) {
        log.warn(format_args!(
            "{} gets {} of memory, not {}: this machine has not enough for all that mounts.toml asks for",
            tmpfs.path, Bytes(size), Bytes(asked.0)
        ));
    }
    let (_open, covered) = target(root, &tmpfs.path)?;
    if let Some(name) = &tmpfs.archive {
        let fill = |stage: &Path| archive::unpack(name, &tmpfs.path, stage);
        let Err(e) = stage(tmpfs, size, &covered, fill) else { return Ok(()) };
        log.warn(format_args!("{} has the image's content instead: {}", tmpfs.path, reason(&e)));
    }
    stage(tmpfs, size, &covered, |stage| {
        if !tmpfs.keep && tmpfs.archive.is_none() {
            return Ok(());
        }
        copy_content(&covered, stage).with_context(|| {
            format!("copying the image's {} into memory (size: {})", tmpfs.path, Bytes(size))
        })
    })
}

/// Fills it out of sight, and moves it to its place when it is complete.
fn stage(
    tmpfs: &Tmpfs,
    size: u64,
    covered: &Path,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    // In a folder of the same name, as archives have it.
    let stage = Path::new(STAGE).join(tmpfs.path.trim_start_matches('/'));
    // A file takes a page at least, and what describes it about a quarter of that, which `size` does not count.
    let files = (size >> 12).max(4096);
    let data = format!("mode={:04o},size={size},nr_inodes={files}", tmpfs.mode.0);
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount::mount(Path::new("tmpfs"), &stage, "tmpfs", flags, &data)?;
    let filled = fill(&stage).and_then(|()| Ok(mount::move_to(&stage, covered)?));
    if filled.is_err() {
        mount::unmount(&stage, UnmountFlags::DETACH)?;
    }
    filled
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gse_protocol::config::{drives::Size, mounts::Mode};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn sizes_of(asked: &[u64], memory: u64) -> Vec<u64> {
        let tmpfs = |mib: &u64| Tmpfs {
            path: "/x".to_owned(),
            size: (*mib > 0).then_some(Size(mib.saturating_mul(MIB))),
            mode: Mode::default(),
            keep: false,
            archive: None,
        };
        let all: Vec<Tmpfs> = asked.iter().map(tmpfs).collect();
        sizes(&all, memory * MIB).into_iter().map(|size| size / MIB).collect()
    }

    #[test]
    fn all_directories_in_memory_leave_a_quarter_of_it() {
        for (asked, memory, expected) in [
            (vec![0, 0, 0], 1024, vec![256, 256, 256]),
            (vec![0, 0, 0], 512, vec![128, 128, 128]),
            (vec![64, 0, 0], 1024, vec![64, 352, 352]),
            (vec![2048], 1024, vec![768]),
            (vec![300, 600], 1024, vec![256, 512]),
            (vec![1024, 0], 1024, vec![640, 128]),
            (vec![u64::MAX, u64::MAX], 1024, vec![768, 768]),
            (vec![0], 1, vec![1]),
            (vec![], 1024, vec![]),
        ] {
            assert_eq!(sizes_of(&asked, memory), expected, "{asked:?} in {memory}");
        }
    }
}
