//! The services by which the booted system tells the controller that it is up, and that it is going
//! down. They are written into the tmpfs `/etc`, so that any image takes part without being changed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::{Context as _, Result};

/// Where the booted system finds the controller.
pub const PROGRAM: &str = "/run/gse/gse-controller";

// `openrc-run` is found as Gentoo and Debian have it.
const OPENRC_UP: &str = r#"#!/sbin/openrc-run
description="Tells the GSE controller that this system is up"

depend() {
	after *
}

start() {
	ebegin "Reporting that this system is up"
	/run/gse/gse-controller up
	eend $?
}
"#;

const OPENRC_CLOSED: &str = r#"#!/sbin/openrc-run
description="Tells the GSE controller that this system shut down cleanly"

depend() {
	before umountfs umountroot mount-ro
}

start() {
	ebegin "Reporting a clean shutdown"
	/run/gse/gse-controller closed
	eend $?
}
"#;

const SYSTEMD_UP: &str = "\
[Unit]
Description=Tells the GSE controller that this system is up
After=multi-user.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/run/gse/gse-controller up
";

const SYSTEMD_CLOSED: &str = "\
[Unit]
Description=Tells the GSE controller that this system shut down cleanly
DefaultDependencies=no
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/run/gse/gse-controller closed
";

/// Writes the services into `etc`, for OpenRC and for systemd, where the image has them.
pub fn install(etc: &Path) -> Result<()> {
    let runlevels = etc.join("runlevels");
    if runlevels.is_dir() {
        let init = etc.join("init.d");
        write(&init.join("gse-up"), OPENRC_UP, 0o755)?;
        write(&init.join("gse-closed"), OPENRC_CLOSED, 0o755)?;
        link("/etc/init.d/gse-up", &runlevels.join("default/gse-up"))?;
        // Gentoo ends in the runlevel `shutdown`; Debian unmounts /etc before that one, in `off`.
        let last = if runlevels.join("off").is_dir() { "off" } else { "shutdown" };
        link("/etc/init.d/gse-closed", &runlevels.join(last).join("gse-closed"))?;
    }
    let systemd = etc.join("systemd/system");
    if systemd.is_dir() {
        write(&systemd.join("gse-up.service"), SYSTEMD_UP, 0o644)?;
        write(&systemd.join("gse-closed.service"), SYSTEMD_CLOSED, 0o644)?;
        link("../gse-up.service", &systemd.join("multi-user.target.wants/gse-up.service"))?;
        link("../gse-closed.service", &systemd.join("sysinit.target.wants/gse-closed.service"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("writing {}", path.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    make_parent(path)?;
    let _ = fs::remove_file(path);
    symlink(target, path).with_context(|| format!("linking {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn services_are_written_for_the_init_that_the_image_has() {
        let dir = tempfile::tempdir().unwrap();
        let (gentoo, debian, systemd) =
            (dir.path().join("gentoo"), dir.path().join("debian"), dir.path().join("systemd"));
        fs::create_dir_all(gentoo.join("runlevels/shutdown")).unwrap();
        fs::create_dir_all(debian.join("runlevels/shutdown")).unwrap();
        fs::create_dir_all(debian.join("runlevels/off")).unwrap();
        fs::create_dir_all(systemd.join("systemd/system")).unwrap();
        for etc in [&gentoo, &debian, &systemd] {
            install(etc).unwrap();
            install(etc).unwrap();
        }
        assert!(gentoo.join("runlevels/shutdown/gse-closed").is_symlink());
        assert!(debian.join("runlevels/off/gse-closed").is_symlink());
        assert!(!debian.join("runlevels/shutdown/gse-closed").is_symlink());
        assert!(debian.join("runlevels/default/gse-up").is_symlink());
        assert!(systemd.join("systemd/system/multi-user.target.wants/gse-up.service").is_file());
        assert!(!systemd.join("init.d").exists());
        for script in [OPENRC_UP, OPENRC_CLOSED, SYSTEMD_UP, SYSTEMD_CLOSED] {
            assert!(script.contains(PROGRAM));
        }
    }
}
