//! Phase 9: what is mounted over the read-only root.

pub mod archive;
mod asked;
mod memory;
mod nfs;

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{
    Mounts,
    drives::Subvolumes,
    mounts::{Bind, Overlay},
};
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

pub use self::asked::asked;
use crate::{
    clock::Date,
    disk::subvolumes,
    inside::{make_directory, open_directory},
    log::{Log, reason},
    mount::{self, MountFlags},
};

/// The partition of the users' data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserData {
    /// Its device.
    pub device: PathBuf,
    /// Its filesystem, as the kernel names it.
    pub kind: String,
    /// With btrfs: its subvolumes.
    pub subvolumes: Subvolumes,
    /// With btrfs: names of subvolumes that are to be gone.
    pub deleted: Vec<String>,
}

/// Paths, relative to the root, that must be directories there before [`mount_all`].
pub fn mount_points(config: &Mounts, userdata: bool) -> Vec<String> {
    let tmpfs = config.tmpfs.iter().map(|t| &t.path);
    let binds = config.bind.iter().filter(|b| b.make && can_be(config, b, userdata));
    let userdata = userdata.then_some(&config.userdata);
    let overlays = config.overlay.iter().map(|o| &o.lower);
    let nfs = config.nfs.iter().filter(|n| n.make).map(|n| &n.to);
    let paths = tmpfs.chain(binds.map(|b| &b.to)).chain(userdata).chain(overlays).chain(nfs);
    paths.map(|path| below(path)).collect()
}

fn below(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

/// Whether there is what a bind is of.
fn can_be(config: &Mounts, bind: &Bind, userdata: bool) -> bool {
    userdata || !config.is_userdata(&config.source(bind))
}

/// Mounts everything that the configuration names over the system at `root`, and returns where, relative to it.
/// One that fails is reported and left out: a machine with one directory less is better than none. Without `/etc`
/// in memory, however, the system would share what must be its own, so that is an error.
pub fn mount_all(
    root: &Path,
    config: &Mounts,
    userdata: Option<&UserData>,
    log: &Log,
) -> Result<Vec<String>> {
    let mut mounted = Vec::new();
    let mut tell = |path: &str, otherwise: &str, done: Result<()>| match done {
        Ok(()) => mounted.push(below(path)),
        Err(e) => log.warn(format_args!("{path} {otherwise}: {}", reason(&e))),
    };
    let stays = "stays as the image has it";
    for (tmpfs, size) in config.tmpfs.iter().zip(memory::sizes(&config.tmpfs, memory::installed()))
    {
        let done = memory::mount(root, tmpfs, size, log);
        if tmpfs.path == "/etc" && done.is_err() {
            return done.map(|()| Vec::new());
        }
        tell(&tmpfs.path, stays, done);
    }
    let userdata = userdata.filter(|userdata| {
        let done = mount_userdata(root, config, userdata, log);
        let there = done.is_ok();
        tell(&config.userdata, "has not the users' data", done);
        there
    });
    for bind in config.bind.iter().filter(|bind| can_be(config, bind, userdata.is_some())) {
        tell(&bind.to, "is not bound", mount_bind(root, &config.source(bind), bind));
    }
    for overlay in &config.overlay {
        tell(&overlay.lower, stays, mount_overlay(root, overlay));
    }
    nfs::mount_all(root, config, &mut tell);
    Ok(mounted)
}

fn mount_userdata(root: &Path, config: &Mounts, userdata: &UserData, log: &Log) -> Result<()> {
    let UserData { device, kind, subvolumes, deleted } = userdata;
    let (flags, mut data) = mount::options(&config.userdata_options);
    let btrfs = kind == "btrfs";
    // Without it, btrfs mounts whatever subvolume somebody made the default.
    if btrfs && !data.contains("subvol") {
        data.push_str(if data.is_empty() { "subvolid=5" } else { ",subvolid=5" });
    }
    let flags = flags | MountFlags::NODEV | MountFlags::NOSUID;
    mount::mount(device, &target(root, &config.userdata)?.1, kind, flags, &data)?;
    if btrfs {
        // Looked up again: what was opened before is what is below the mount.
        let (_open, top) = target(root, &config.userdata)?;
        subvolumes::bring(&top, &subvolumes.0, deleted, Date::today(), log);
    }
    Ok(())
}

fn mount_bind(root: &Path, from: &str, bind: &Bind) -> Result<()> {
    let from = match bind.make {
        true => reach(make_directory(root, Path::new(from))?),
        false => target(root, from)?,
    };
    mount::bind(&from.1, &target(root, &bind.to)?.1)?;
    let (flags, _) = mount::options(&bind.options);
    if flags.is_empty() {
        return Ok(());
    }
    let (_open, to) = target(root, &bind.to)?;
    // A bind has the flags of what it is of until it gets some of its own, which are then all that it has. statvfs(3)
    // and mount(2) give them the same bits.
    let own = statvfs(&to).with_context(|| format!("looking at {}", bind.to))?.f_flag.bits();
    let own = MountFlags::from_bits_truncate(own as _) & mount::kept_by_binds();
    Ok(mount::remount(&to, flags | own | MountFlags::BIND)?)
}

fn mount_overlay(root: &Path, overlay: &Overlay) -> Result<()> {
    let lower = target(root, &overlay.lower)?;
    let upper = reach(make_directory(root, Path::new(&overlay.upper))?);
    let work = reach(make_directory(root, Path::new(&overlay.work))?);
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.1.display(),
        upper.1.display(),
        work.1.display()
    );
    Ok(mount::mount(Path::new("overlay"), &lower.1, "overlay", MountFlags::NODEV, &data)?)
}

/// The directory `path` of the system: held open, and as a path that this process can mount on.
fn target(root: &Path, path: &str) -> Result<(OwnedFd, PathBuf)> {
    match open_directory(root, Path::new(path))? {
        Some(dir) => Ok(reach(dir)),
        None => bail!("the image has no directory {path}"),
    }
}

fn reach(dir: OwnedFd) -> (OwnedFd, PathBuf) {
    let reach = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    (dir, reach)
}

/// The image's `/etc/fstab` with `root` as it is mounted, and without lines for what the controller has
/// mounted already. The real init would otherwise mount the root writable, or cover a tmpfs.
pub fn fstab(image: &str, root: &str, mounted: &[String]) -> String {
    let mut out =
        format!("# The first line is the controller's; the rest is the image's.\n{root}\n");
    for line in image.lines() {
        let point = match line.split_whitespace().nth(1) {
            Some(point) if !line.trim_start().starts_with('#') => point,
            _ => {
                out.push_str(line);
                out.push('\n');
                continue;
            }
        };
        let path = point.trim_start_matches('/');
        if point != "/" && !mounted.iter().any(|m| m == path) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fstab_has_the_root_as_it_is_mounted() {
        let image = "# the image's\nLABEL=SYSFS / auto noatime 0 1\n\ntmpfs /tmp tmpfs size=9 0 0\nnfs:/h /home nfs ro 0 0\n";
        let mounted = ["tmp".to_owned(), "etc".to_owned()];
        let expected = "# The first line is the controller's; the rest is the image's.\n\
                        /dev/vda2 / btrfs ro,subvol=@ 0 0\n# the image's\n\nnfs:/h /home nfs ro 0 0\n";
        assert_eq!(fstab(image, "/dev/vda2 / btrfs ro,subvol=@ 0 0", &mounted), expected);
    }

    #[test]
    fn userdata_needs_its_mount_points_only_where_there_is_a_partition() {
        let config = Mounts::default();
        assert_eq!(mount_points(&config, false), ["etc", "var/log", "tmp"]);
        assert_eq!(mount_points(&config, true), ["etc", "var/log", "tmp", "user-data"]);
    }
}
