//! Phase 9: what is mounted over the read-only root.

use std::{
    fs,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{
    Mounts,
    mounts::{Bind, Tmpfs},
};

use crate::{
    copy::copy_tree,
    inside::{make_directory, open_directory},
    log::{Log, reason},
    mount::{self, MountFlags, STAGE, UnmountFlags},
};

/// Paths, relative to the root, that must be directories there before [`mount_all`].
pub fn mount_points(config: &Mounts, userdata: bool) -> Vec<String> {
    let tmpfs = config.tmpfs.iter().map(|t| &t.path);
    let binds = config.bind.iter().map(|b| &b.to).chain([&config.userdata]);
    tmpfs
        .chain(binds.filter(|_| userdata))
        .map(|path| path.trim_start_matches('/').to_owned())
        .collect()
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
    let Some((device, fstype)) = userdata else { return Ok(()) };
    let mounted = target(root, &config.userdata).and_then(|target| {
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        Ok(mount::mount(device, &target.1, fstype, flags, "")?)
    });
    if let Err(e) = mounted {
        log.warn(format_args!("the users' data are not there: {}", reason(&e)));
        return Ok(());
    }
    for bind in &config.bind {
        if let Err(e) = bind_userdata(root, &config.userdata, bind) {
            log.warn(format_args!("{} is not bound: {}", bind.to, reason(&e)));
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
            for entry in fs::read_dir(&covered).context("listing the image's directory")? {
                let entry = entry.context("listing the image's directory")?;
                copy_tree(&entry.path(), &stage.join(entry.file_name())).with_context(|| {
                    format!(
                        "copying the image's {} into memory (size: {})",
                        tmpfs.path,
                        tmpfs
                            .size
                            .map_or("half of the memory".to_owned(), |s| format!("{} bytes", s.0))
                    )
                })?;
            }
        }
        Ok(mount::move_to(stage, &covered)?)
    })();
    if filled.is_err() {
        mount::unmount(stage, UnmountFlags::DETACH)?;
    }
    filled
}

fn bind_userdata(root: &Path, userdata: &str, bind: &Bind) -> Result<()> {
    let from = format!("{userdata}/{}", bind.from);
    let from = make_directory(root, Path::new(&from))?;
    let (_open, to) = target(root, &bind.to)?;
    Ok(mount::bind(&Path::new("/proc/self/fd").join(from.as_raw_fd().to_string()), &to)?)
}

/// The directory `path` of the system: held open, and as a path that this process can mount on.
fn target(root: &Path, path: &str) -> Result<(std::os::fd::OwnedFd, PathBuf)> {
    let Some(dir) = open_directory(root, Path::new(path))? else {
        bail!("the image has no directory {path}");
    };
    let reach = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    Ok((dir, reach))
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
