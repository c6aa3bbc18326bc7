//! The root tree that the lab installs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_qemu::{fixtures, process};

/// What a stage3 is given for the lab to see its login; Gentoo has this line as a comment.
const LOGIN: &str = "s0:12345:respawn:/sbin/agetty --local-line 115200 ttyS0 vt100\n";

/// Where the tree comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The lab's own.
    Debian,
    /// A tree of the user's, which is left as it is.
    Tree(PathBuf),
    /// A tarball, to be unpacked.
    Stage3(PathBuf),
}

impl Source {
    /// What the user named, if it can be used.
    pub(crate) fn new(tree: Option<&Path>, stage3: Option<&Path>) -> Result<Self> {
        if let Some(file) = stage3 {
            let file =
                file.canonicalize().with_context(|| format!("looking for {}", file.display()))?;
            if !file.is_file() {
                bail!("{} is no tarball", file.display());
            }
            return Ok(Self::Stage3(file));
        }
        let Some(dir) = tree else { return Ok(Self::Debian) };
        let dir = dir.canonicalize().with_context(|| format!("looking for {}", dir.display()))?;
        check(&dir)?;
        if !has_serial_login(&dir) {
            bail!(
                "{0} has no login on ttyS0, where the lab waits for one: add this line to {0}/etc/inittab\n{LOGIN}",
                dir.display()
            );
        }
        Ok(Self::Tree(dir))
    }

    /// The tree's directory; `work` is a place to unpack in.
    pub(crate) fn prepare(&self, work: &Path) -> Result<PathBuf> {
        match self {
            Self::Debian => Ok(fixtures::tree()?),
            Self::Tree(dir) => Ok(dir.clone()),
            Self::Stage3(file) => unpack(file, &work.join("stage3")),
        }
    }
}

fn unpack(file: &Path, dir: &Path) -> Result<PathBuf> {
    fs::create_dir(dir).with_context(|| format!("creating {}", dir.display()))?;
    let mut tar = process::command("tar");
    // As the Gentoo handbook says, for owners and file capabilities to survive.
    tar.args(["--xattrs-include=*.*", "--numeric-owner", "-xpf"]).arg(file).arg("-C").arg(dir);
    process::output(tar)?;
    check(dir)?;
    let inittab = dir.join("etc/inittab");
    if !has_serial_login(dir) {
        let text = fs::read_to_string(&inittab)
            .with_context(|| format!("reading {}", inittab.display()))?;
        fs::write(&inittab, text + "\n" + LOGIN)
            .with_context(|| format!("writing {}", inittab.display()))?;
    }
    Ok(dir.to_owned())
}

fn check(dir: &Path) -> Result<()> {
    // Not whether it exists: it may be a link that only makes sense inside.
    if !["sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd"]
        .iter()
        .any(|init| dir.join(init).symlink_metadata().is_ok())
    {
        bail!("{} is no root tree: it has no /sbin/init", dir.display());
    }
    Ok(())
}

/// Whether somebody can log in on the serial console. systemd starts a login on the kernel's console by itself.
fn has_serial_login(dir: &Path) -> bool {
    let inittab = fs::read_to_string(dir.join("etc/inittab")).unwrap_or_default();
    let login = |line: &str| !line.trim_start().starts_with('#') && line.contains("ttyS0");
    let openrc = dir.join("etc/runlevels/default/agetty.ttyS0").symlink_metadata().is_ok();
    inittab.lines().any(login) || openrc || dir.join("usr/lib/systemd/systemd").is_file()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn tree(inittab: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sbin")).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("sbin/init"), "").unwrap();
        fs::write(dir.path().join("etc/inittab"), inittab).unwrap();
        dir
    }

    #[test]
    fn a_tree_that_cannot_be_used_is_refused_with_advice() {
        let missing = Source::new(Some(Path::new("/nonexistent")), None).unwrap_err();
        assert!(format!("{missing:#}").contains("/nonexistent"), "{missing:#}");

        let empty = tempfile::tempdir().unwrap();
        let error = Source::new(Some(empty.path()), None).unwrap_err().to_string();
        assert!(error.contains("no root tree"), "{error}");

        let mute = tree("#s0:12345:respawn:/sbin/agetty -L 9600 ttyS0 vt100\n");
        let error = Source::new(Some(mute.path()), None).unwrap_err().to_string();
        assert!(error.contains("ttyS0") && error.contains("etc/inittab"), "{error}");
    }

    #[test]
    fn a_stage3_gets_a_login_on_the_serial_console() {
        let stage3 =
            tree("id:3:initdefault:\n#s0:12345:respawn:/sbin/agetty -L 9600 ttyS0 vt100\n");
        let work = tempfile::tempdir().unwrap();
        let tarball = work.path().join("stage3.tar.xz");
        let mut tar = process::command("tar");
        tar.args(["-cJf"]).arg(&tarball).arg("-C").arg(stage3.path()).arg(".");
        process::output(tar).unwrap();
        let source = Source::new(None, Some(&tarball)).unwrap();
        let dir = source.prepare(work.path()).unwrap();
        assert!(has_serial_login(&dir));
        assert!(!has_serial_login(stage3.path()));
    }
}
