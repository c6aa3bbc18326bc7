//! The services by which the booted system tells the controller that it is up, and that it is going
//! down. They are written into the tmpfs `/etc`, so that any image takes part without being changed.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{mount, shutdown, supervisor::RUN_DIR, switch_root::check_init};

/// Where the booted system finds the controller.
pub const PROGRAM: &str = "/run/gse/gse-controller";

/// Has nothing but the program, by its name: for a person's PATH.
const BIN: &str = "/run/gse/bin";

// Debian's and Gentoo's /etc/profile read all of /etc/profile.d.
const PROFILE: &str = "\
# Lets root type `gse-controller status`. Written by the GSE controller at each start.
case :$PATH: in
*:/run/gse/bin:*) ;;
*) PATH=$PATH:/run/gse/bin ;;
esac
";

/// Where systemd looks for what is to end the machine's life.
const EXIT_ROOT: &str = "/run/initramfs";

/// What starts and ends an image's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// OpenRC.
    OpenRc,
    /// systemd.
    Systemd,
}

impl Manager {
    /// Those that the image at `root` has. Which of them its init starts is not known.
    pub fn of(root: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        if root.join("etc/runlevels").is_dir() {
            found.push(Self::OpenRc);
        }
        let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
        if systemd.iter().any(|path| check_init(root, path).is_ok()) {
            found.push(Self::Systemd);
        }
        found
    }
}

// `openrc-run` is found as Gentoo and Debian have it.
//
// Not `after *`: with rc_parallel, two services that say so (`local` is one) wait for each other. OpenRC takes
// `rc.starting` away when the runlevel is complete and all that it started has ended; but so does any other `openrc` that
// ends meanwhile, such as one that a service calls. So the `openrc` that started this has to have ended too: `RC_PID`, by
// its name, in case that another process gets its number.
const OPENRC_UP: &str = r#"#!/sbin/openrc-run
description="Tells the GSE controller that this system is up"

start() {
	ebegin "Reporting when this system is up"
	(
		read -r openrc <"/proc/$RC_PID/comm"
		while [ -e "$RC_SVCDIR/rc.starting" ] ||
			{ read -r now <"/proc/$RC_PID/comm" && [ "$now" = "$openrc" ]; }; do
			sleep 0.2
		done
		exec /run/gse/gse-controller up
	) </dev/null >/dev/null 2>&1 &
	eend 0
}
"#;

// Gentoo ends with `mount-ro`, Debian with `umountfs` and `umountroot`; `killprocs` and `sendsigs` end
// whatever runs, and might this.
const OPENRC_CLOSED: &str = r#"#!/sbin/openrc-run
description="Tells the GSE controller that this system shut down cleanly"

depend() {
	after killprocs savecache sendsigs umountnfs.sh
	before umountfs umountroot mount-ro
}

start() {
	ebegin "Reporting a clean shutdown"
	/run/gse/gse-controller closed
	eend $?
}
"#;

// A target is reached when everything that it wants and that is ordered before it has started or failed; so one
// service that hangs keeps it from being reached. This one is wanted by whatever the image boots into, and
// names the usual targets too, whose services may come later than those of another default.
const SYSTEMD_UP: &str = "\
[Unit]
Description=Tells the GSE controller that this system is up
After=default.target multi-user.target graphical.target

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=/run/gse/gse-controller up
";

// It waits itself until the system is up, and ends by itself where there is nothing for it to do.
const OPENRC_FETCH: &str = r#"#!/sbin/openrc-run
description="Fetches updates for the next start of this system"
command="/run/gse/gse-controller"
command_args="fetch --service"
command_background="yes"
pidfile="/run/gse/fetch.pid"
output_log="/dev/null"
error_log="/dev/null"

depend() {
	use net
	after net
}
"#;

const SYSTEMD_FETCH: &str = "\
[Unit]
Description=Fetches updates for the next start of this system
Wants=network-online.target
After=network-online.target default.target gse-up.service

[Service]
Nice=19
IOSchedulingClass=idle
StandardOutput=null
ExecStart=/run/gse/gse-controller fetch --service
";

// `localmount` is stopped first, and unmounts what is not named so; the services of the runlevel `shutdown` are looked for
// afterwards. Releases after 0.63 keep /etc by themselves. The list is split at colons.
const OPENRC_KEPT: &str = "\
# Without these, nothing could report a clean shutdown. Written by the GSE controller at each start.
no_umounts=\"${no_umounts:+$no_umounts:}/etc:/run/gse\"
";

/// Writes the services into the `/etc` of the system at `root`; that which fetches updates only if it is to.
pub fn install(root: &Path, fetches: bool) -> Result<()> {
    let etc = root.join("etc");
    write(&etc.join("profile.d/gse.sh"), PROFILE, 0o644)?;
    for manager in Manager::of(root) {
        match manager {
            Manager::OpenRc => openrc(&etc, fetches)?,
            Manager::Systemd => systemd(&etc.join("systemd/system"), fetches)?,
        }
    }
    Ok(())
}

fn openrc(etc: &Path, fetches: bool) -> Result<()> {
    let (init, runlevels) = (etc.join("init.d"), etc.join("runlevels"));
    append(&etc.join("conf.d/localmount"), OPENRC_KEPT)?;
    write(&init.join("gse-up"), OPENRC_UP, 0o755)?;
    write(&init.join("gse-closed"), OPENRC_CLOSED, 0o755)?;
    link("/etc/init.d/gse-up", &runlevels.join("default/gse-up"))?;
    if fetches {
        write(&init.join("gse-fetch"), OPENRC_FETCH, 0o755)?;
        link("/etc/init.d/gse-fetch", &runlevels.join("default/gse-fetch"))?;
    }
    // Gentoo ends in the runlevel `shutdown`; Debian unmounts /etc before that one, in `off`.
    let last = if runlevels.join("off").is_dir() { "off" } else { "shutdown" };
    link("/etc/init.d/gse-closed", &runlevels.join(last).join("gse-closed"))
}

fn systemd(units: &Path, fetches: bool) -> Result<()> {
    let wants = units.join("default.target.wants");
    if fetches {
        write(&units.join("gse-fetch.service"), SYSTEMD_FETCH, 0o644)?;
        link("../gse-fetch.service", &wants.join("gse-fetch.service"))?;
    }
    write(&units.join("gse-up.service"), SYSTEMD_UP, 0o644)?;
    link("../gse-up.service", &wants.join("gse-up.service"))
}

/// Leaves a copy of this program for the booted system, which reports to it.
pub fn leave_program() -> Result<()> {
    fs::copy("/proc/self/exe", PROGRAM).with_context(|| format!("copying to {PROGRAM}"))?;
    link(PROGRAM, &Path::new(BIN).join("gse-controller"))
}

/// Has systemd, after everything is ended and unmounted, start this program in the place of the system.
pub fn prepare_shutdown() -> Result<()> {
    let run = Path::new(RUN_DIR);
    link("gse-controller", &run.join(shutdown::NAME))?;
    let exit_root = Path::new(EXIT_ROOT);
    if mount::is_mount_point(exit_root) {
        // From a start that failed.
        return Ok(());
    }
    fs::create_dir_all(exit_root).with_context(|| format!("making {EXIT_ROOT}"))?;
    Ok(mount::bind(run, exit_root)?)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("writing {}", path.display()))
}

/// Adds these lines at the end of a file of the image, unless they are there.
fn append(path: &Path, lines: &str) -> Result<()> {
    let mut text = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.with_context(|| format!("reading {}", path.display()))?,
    };
    if text.ends_with(lines.as_bytes()) {
        return Ok(());
    }
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(lines.as_bytes());
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
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
    use std::process::Command;

    use super::*;

    /// A root with a program and directories in it.
    fn root(program: Option<&str>, directories: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for below in directories {
            fs::create_dir_all(dir.path().join(below)).unwrap();
        }
        if let Some(program) = program {
            write(&dir.path().join(program), "", 0o755).unwrap();
        }
        dir
    }

    #[test]
    fn services_are_written_for_what_the_image_has() {
        let gentoo = root(None, &["etc/runlevels/shutdown"]);
        let debian = root(None, &["etc/runlevels/shutdown", "etc/runlevels/off"]);
        let systemd = root(Some("usr/lib/systemd/systemd"), &["etc"]);
        let older = root(Some("lib/systemd/systemd"), &["etc"]);
        for root in [&gentoo, &debian, &systemd, &older] {
            // Twice: a boot that is tried again does so.
            install(root.path(), true).unwrap();
            install(root.path(), true).unwrap();
        }
        let plain = root(None, &["etc/runlevels"]);
        install(plain.path(), false).unwrap();
        let has =
            |root: &tempfile::TempDir, path: &str| root.path().join("etc").join(path).is_symlink();
        assert!(has(&gentoo, "runlevels/shutdown/gse-closed"));
        assert!(has(&debian, "runlevels/off/gse-closed"));
        assert!(!has(&debian, "runlevels/shutdown/gse-closed"));
        assert!(has(&debian, "runlevels/default/gse-up"));
        assert!(has(&debian, "runlevels/default/gse-fetch"));
        assert!(has(&plain, "runlevels/default/gse-up"));
        assert!(!has(&plain, "runlevels/default/gse-fetch"));
        assert!(has(&systemd, "systemd/system/default.target.wants/gse-fetch.service"));
        for root in [&systemd, &older] {
            assert!(
                root.path()
                    .join("etc/systemd/system/default.target.wants/gse-up.service")
                    .is_file()
            );
            assert!(!root.path().join("etc/init.d").exists());
        }
        for text in [OPENRC_UP, OPENRC_CLOSED, OPENRC_FETCH, SYSTEMD_UP, SYSTEMD_FETCH] {
            assert!(text.contains(PROGRAM));
        }
    }

    #[test]
    fn what_a_report_needs_is_not_unmounted_before_it() {
        let root = root(None, &["etc/runlevels", "etc/conf.d"]);
        let path = root.path().join("etc/conf.d/localmount");
        for (before, mounts) in [(None, ""), (Some("no_umounts=/a:/b"), "/a:/b:")] {
            if let Some(text) = before {
                fs::write(&path, text).unwrap();
            }
            install(root.path(), false).unwrap();
            let once = fs::read_to_string(&path).unwrap();
            install(root.path(), false).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), once);
            let mut sh = Command::new("sh");
            let said = sh.args(["-euc", ". \"$0\"; echo $no_umounts"]).arg(&path).output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert_eq!(said, format!("{mounts}/etc:/run/gse\n"));
        }
    }

    #[test]
    fn an_image_with_another_init_is_told_apart() {
        assert_eq!(Manager::of(root(Some("sbin/init"), &["etc"]).path()), []);
        let both = root(Some("usr/lib/systemd/systemd"), &["etc/runlevels"]);
        assert_eq!(Manager::of(both.path()), [Manager::OpenRc, Manager::Systemd]);
    }
}
