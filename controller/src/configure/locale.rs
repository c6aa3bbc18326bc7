//! Locales, made of their list by the image's own `locale-gen`.
//!
//! It runs in a mount namespace of its own, where `/etc` and the directory of the locales are in memory: the
//! image is only read, whatever the program does, and what it made is then applied as any other file.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{bundle, system::LOCALE_GEN};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, chroot, kill_process_group, pidfd_open},
};

use super::{OwnedFile, Thing, Wanted};
use crate::{
    copy::copy_content,
    inside,
    log::Log,
    mount::{self, MountFlags},
};

/// Where glibc looks for locales.
const LOCALES: &str = "usr/lib/locale";
const PROGRAMS: [&str; 4] =
    ["usr/sbin/locale-gen", "sbin/locale-gen", "usr/bin/locale-gen", "usr/local/sbin/locale-gen"];
/// What the program said, beside what it made.
const SAID: &str = ".gse-said";

/// Makes the locales of `list` with the programs of the image at `root`, and returns them by their path; none
/// if the image cannot make locales.
///
/// # Errors
/// A program that fails, or takes longer than `limit`.
pub(super) fn generate(
    root: &Path,
    list: &[u8],
    limit: Duration,
    log: &Log,
) -> Result<Option<Vec<Wanted>>> {
    let there = |path: &&str| inside::read(root, Path::new(path)).is_ok_and(|file| file.is_some());
    let Some(program) = PROGRAMS.into_iter().find(there) else {
        log.warn(
            "the image has no locale-gen: its locales stay as they are, whatever locale.gen lists",
        );
        return Ok(None);
    };
    log.info("making the locales that are listed in locale.gen");
    let made = thread::scope(|scope| {
        // A thread of its own, because what it unshares cannot be had back.
        let work = || alone(root, program, list, limit);
        let worker = thread::Builder::new().spawn_scoped(scope, work);
        match worker.context("starting a thread")?.join() {
            Ok(made) => made,
            Err(_) => bail!("a thread failed"),
        }
    });
    made.context("making locales").map(Some)
}

fn alone(root: &Path, program: &str, list: &[u8], limit: Duration) -> Result<Vec<Wanted>> {
    mount::keep_to_this_thread().context("keeping mounts to this thread")?;
    let image = hold(root, "etc")?;
    cover(root, "etc", None)?;
    copy_content(&image.1, &hold(root, "etc")?.1)?;
    cover(root, LOCALES, None)?;
    cover(root, "tmp", None)?;
    cover(root, "dev", Some("/dev"))?;
    cover(root, "proc", Some("/proc"))?;

    chroot(root).context("entering the image")?;
    std::env::set_current_dir("/").context("entering the image")?;
    fs::write(Path::new("/").join(LOCALE_GEN), list).context("writing the list")?;
    let folder = Path::new("/").join(LOCALES);
    let said = folder.join(SAID);
    let output = File::create(&said).context("keeping what the program says")?;
    let errors = output.try_clone().context("keeping what the program says")?;
    let child = Command::new(Path::new("/").join(program))
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn();
    let status = wait(child.with_context(|| format!("starting /{program}"))?, limit)?;
    match status {
        Some(status) if status.success() => {}
        Some(status) => bail!("/{program} failed ({status}): {}", tail(&said)),
        None => bail!("/{program} took longer than {} s: {}", limit.as_secs(), tail(&said)),
    }
    fs::remove_file(&said).context("removing what the program said")?;
    let mut made = Vec::new();
    collect(&folder, LOCALES, &mut made).context("reading what was made")?;
    Ok(made)
}

/// A directory of the image: held open, and as a path by which this process reaches it.
fn hold(root: &Path, path: &str) -> Result<(OwnedFd, PathBuf)> {
    let dir = inside::open_directory(root, Path::new(path))?;
    let dir = dir.with_context(|| format!("the image has no directory /{path}"))?;
    let reach = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    Ok((dir, reach))
}

/// Mounts a directory of this machine over one of the image, or one in memory.
fn cover(root: &Path, path: &str, by: Option<&str>) -> Result<()> {
    let covered = hold(root, path)?;
    match by {
        Some(own) => mount::bind(Path::new(own), &covered.1)?,
        None => mount::mount(Path::new("tmpfs"), &covered.1, "tmpfs", MountFlags::NODEV, "")?,
    }
    Ok(())
}

/// The end of a file, for a message.
fn tail(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<&str> =
        text.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
    lines.reverse();
    lines.join("; ")
}

/// Waits until the child ends; none if that took longer than `limit`, and it was killed with all that it
/// had started.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let pid = Pid::from_child(&child);
    let end = pidfd_open(pid, PidfdFlags::empty()).context("waiting for a program")?;
    let limit = Timespec::try_from(limit).context("waiting for a program")?;
    let ended = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit));
    let in_time = ended.context("waiting for a program")? > 0;
    // In any case: nothing of it may go on.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait().context("waiting for a program")?;
    Ok(in_time.then_some(status))
}

fn collect(folder: &Path, name: &str, out: &mut Vec<Wanted>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let Ok(own) = entry.file_name().into_string() else { continue };
        let name = format!("{name}/{own}");
        if kind.is_dir() {
            collect(&path, &name, out)?;
        } else if kind.is_file() {
            let mut file = File::open(&path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let mode = file.metadata()?.permissions().mode() & 0o7777;
            let file = bundle::File { mode, bytes };
            let thing = Thing::File(OwnedFile { file, uid: 0, gid: 0 });
            out.push(Wanted { path: name, thing, force: true });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Option<ExitStatus> {
        let child = Command::new("/bin/sh").args(["-c", script]).process_group(0).spawn();
        wait(child.unwrap(), limit).unwrap()
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
        let began = Instant::now();
        assert_eq!(shell("sleep 1000 & sleep 1000", Duration::from_millis(100)), None);
        assert!(began.elapsed() < Duration::from_secs(500));
        let limit = Duration::from_secs(1000);
        assert_eq!(shell("exit 3", limit).and_then(|status| status.code()), Some(3));
    }
}
