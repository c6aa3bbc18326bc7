//! Part K, inside: what a system is not shipped with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::part_c::REPOSITORY;
use crate::build::{Error, inside::Inside};

/// Folders that are emptied.
const EMPTIED: [&str; 7] = [
    "/var/tmp",
    "/var/cache/distfiles",
    "/var/cache/binpkgs",
    "/var/cache/edb",
    "/var/cache/eix",
    "/var/log/portage",
    "/root/.cache",
];
/// Entries of `/usr/share` that `--build-minimal` leaves out.
const DOCUMENTATION: [&str; 4] = ["doc", "gtk-doc", "info", "man"];
/// What each machine has to have for itself.
const OF_ONE_MACHINE: [&str; 3] =
    ["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/resolv.conf"];

/// `gclean`
pub(in crate::build) fn clean(inside: &mut Inside<'_>) -> Result<(), Error> {
    let system = inside.system;
    for folder in EMPTIED {
        work(inside, "empty", Path::new(folder), empty)?;
    }
    let minimal = inside.options.minimal;
    let of_minimal = DOCUMENTATION.into_iter().filter(|_| minimal);
    for entry in system.build.clean.share.iter().map(String::as_str).chain(of_minimal) {
        work(inside, "remove", &Path::new("/usr/share").join(entry), remove)?;
    }
    if system.build.clean.repository || minimal {
        work(inside, "remove", Path::new(REPOSITORY), remove)?;
    }
    for sources in left_of_sources() {
        work(inside, "remove", &sources, remove)?;
    }
    for file in OF_ONE_MACHINE {
        if !is_configured(inside, file) {
            work(inside, "empty", Path::new(file), truncate)?;
        }
    }
    for key in host_keys() {
        if !is_configured(inside, &key.to_string_lossy()) {
            work(inside, "remove", &key, remove)?;
        }
    }
    work(inside, "empty the logs in", Path::new("/var/log"), truncate_all)
}

fn is_configured(inside: &Inside<'_>, file: &str) -> bool {
    inside.system.files.contains_key(file.trim_start_matches('/'))
}

fn work(
    inside: &mut Inside<'_>,
    verb: &str,
    path: &Path,
    work: fn(&Path) -> io::Result<()>,
) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() {
        inside.loops.work(&format!("{verb} {}", path.display()), &[], || work(path))?;
    }
    Ok(())
}

/// What compiling a kernel left among its sources, once those are gone with their package.
fn left_of_sources() -> Vec<PathBuf> {
    let entries = fs::read_dir("/usr/src").into_iter().flatten().flatten();
    let is_left = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name == "linux" || name.starts_with("linux-")) && !path.join("Makefile").exists()
    };
    entries.map(|entry| entry.path()).filter(is_left).collect()
}

fn host_keys() -> Vec<PathBuf> {
    let entries = fs::read_dir("/etc/ssh").into_iter().flatten().flatten();
    let is_key = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_"))
    };
    entries.map(|entry| entry.path()).filter(is_key).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Portage keeps such a file where an ebuild wants an empty folder to stay.
        if !entry.file_name().to_string_lossy().starts_with(".keep") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// A file keeps its owner and mode; a link stays as it is.
fn truncate(file: &Path) -> io::Result<()> {
    if file.symlink_metadata()?.is_file() { fs::write(file, "") } else { Ok(()) }
}

fn truncate_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            truncate_all(&entry.path())?;
        } else {
            truncate(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_when_they_are_emptied() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        for file in ["a/b/file", "a/.keep_x", "log"] {
            fs::write(root.path().join(file), "text").unwrap();
        }
        empty(&root.path().join("a")).unwrap();
        assert!(root.path().join("a/.keep_x").exists() && !root.path().join("a/b").exists());
        truncate_all(root.path()).unwrap();
        assert_eq!(fs::read(root.path().join("log")).unwrap(), b"");
    }
}
