//! Phase 9: what is mounted over the read-only root.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{
    Mounts,
    mounts::{Bind, Overlay, Tmpfs},
};

use crate::{
    copy::copy_content,
    inside::{make_directory, open_directory},
    log::{Log, reason},
    mount::{self, MountFlags, STAGE, UnmountFlags},
};

/// Paths, relative to the root, that must be directories there before [`mount_all`].
pub fn mount_points(config: &Mounts, userdata: bool) -> Vec<String> {
    let tmpfs = config.tmpfs.iter().map(|t| &t.path);
    let binds = config.bind.iter().filter(|b| b.make && can_be(config, b, userdata));
    let userdata = userdata.then_some(&config.userdata);
    let overlays = config.overlay.iter().map(|o| &o.lower);
    tmpfs
        .chain(binds.map(|b| &b.to))
        .chain(userdata)
        .chain(overlays)
        .map(|path| path.trim_start_matches('/').to_owned())
        .collect()
}

/// Whether there is what a bind is of.
fn can_be(config: &Mounts, bind: &Bind, userdata: bool) -> bool {
    userdata || !config.is_userdata(&config.source(bind))
}

/// Mounts everything that the configuration names over the system at `root`. One that fails is
/// reported and left out: a machine with one directory less is better than none. Without `/etc` in
/// memory, however, the system would share what must be its own, so that is an error.
pub fn mount_all(
    root: &Path,
    config: &Mounts,
    userdata: Option<(&Path, &str)>,
    log: &Log,
) -> Result<()> {
    for tmpfs in &config.tmpfs {
        match mount_tmpfs(root, tmpfs) {
            Err(e) if tmpfs.path == "/etc" => return Err(e),
            Err(e) => {
                log.warn(format_args!("{} stays as the image has it: {}", tmpfs.path, reason(&e)))
            }
            Ok(()) => log.debug(format_args!("{} is in memory", tmpfs.path)),
        }
    }
    if let Some((device, fstype)) = userdata {
        let mounted = target(root, &config.userdata).and_then(|target| {
            let flags = MountFlags::NODEV | MountFlags::NOSUID;
            Ok(mount::mount(device, &target.1, fstype, flags, "")?)
        });
        if let Err(e) = mounted {
            log.warn(format_args!("the users' data are not there: {}", reason(&e)));
            return Ok(());
        }
    }
    for bind in config.bind.iter().filter(|bind| can_be(config, bind, userdata.is_some())) {
        if let Err(e) = mount_bind(root, &config.source(bind), bind) {
            log.warn(format_args!("{} is not bound: {}", bind.to, reason(&e)));
        }
    }
    for overlay in &config.overlay {
        if let Err(e) = mount_overlay(root, overlay) {
            log.warn(format_args!("{} stays as the image has it: {}", overlay.lower, reason(&e)));
        }
    }
    Ok(())
}

fn mount_tmpfs(root: &Path, tmpfs: &Tmpfs) -> Result<()> {
    let (_open, covered) = target(root, &tmpfs.path)?;
    let stage = Path::new(STAGE);
    let size = tmpfs.size.map(|size| format!(",size={}", size.0)).unwrap_or_default();
    let data = format!("mode={:04o}{size}", tmpfs.mode.0);
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount::mount(Path::new("tmpfs"), stage, "tmpfs", flags, &data)?;
    let filled = (|| {
        if tmpfs.keep {
            copy_content(&covered, stage).with_context(|| {
                let size = tmpfs.size.map(|s| format!("{} bytes", s.0));
                format!(
                    "copying the image's {} into memory (size: {})",
                    tmpfs.path,
                    size.as_deref().unwrap_or("half of the memory")
                )
            })?;
        }
        Ok(mount::move_to(stage, &covered)?)
    })();
    if filled.is_err() {
        mount::unmount(stage, UnmountFlags::DETACH)?;
    }
    filled
}

fn mount_bind(root: &Path, from: &str, bind: &Bind) -> Result<()> {
    let from = match bind.make {
        true => reach(make_directory(root, Path::new(from))?),
        false => target(root, from)?,
    };
    let to = target(root, &bind.to)?;
    Ok(mount::bind(&from.1, &to.1)?)
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
