//! Files where dracut looks for them, and results where they belong.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use gse_dracut::{Category, Files};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::super::{Error, parent, sync_directory};

/// Makes the directory anew with these files, whole or not at all but for a moment.
pub(super) fn replace_directory(directory: &Path, files: &Files) -> Result<(), Error> {
    let above = parent(directory);
    fs::create_dir_all(above).map_err(Error::io("making", above))?;
    let new = tempfile::Builder::new()
        .prefix(".modules.d.")
        .tempdir_in(above)
        .map_err(Error::io("making a directory in", above))?;
    let (made, old) = (new.path().join("new"), new.path().join("old"));
    write(&made, files)?;
    match fs::rename(directory, &old) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("moving away", directory)(e));
        }
        _ => {}
    }
    fs::rename(&made, directory).map_err(Error::io("writing", directory))?;
    sync_directory(above)
}

fn write(top: &Path, files: &Files) -> Result<(), Error> {
    for (path, file) in files {
        let path = top.join(path);
        let directory = parent(&path);
        fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
        fs::write(&path, &file.bytes).map_err(Error::io("writing", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(file.mode))
            .map_err(Error::io("writing", &path))?;
    }
    Ok(())
}

/// A stand-in for `/usr/lib/dracut` that has GSE's modules too: dracut takes it by `$dracutbasedir`, and the
/// system stays as it is.
pub(super) fn base(to: &Path, dracut: &Path, files: &Files, time: u32) -> Result<(), Error> {
    let modules = to.join("modules.d");
    fs::create_dir_all(&modules).map_err(Error::io("making", &modules))?;
    let link = |from: &Path, to: &Path| symlink(from, to).map_err(Error::io("making", to));
    for entry in entries(dracut)? {
        if entry.file_name() != "modules.d" {
            link(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    for entry in entries(&dracut.join("modules.d"))? {
        let name = entry.file_name();
        if !is_ours(&name.to_string_lossy()) {
            link(&entry.path(), &modules.join(name))?;
        }
    }
    write(&modules, files)?;
    // dracut gives whatever is newer than this file the same time, so that images can be made again.
    let mark = to.join("dracut-functions.sh");
    let at = Timespec { tv_sec: time.into(), tv_nsec: 0 };
    let times = Timestamps { last_access: at, last_modification: at };
    utimensat(CWD, &mark, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::io("setting the time of", &mark)(e.into()))
}

/// Whether a module of the system is an older one of ours.
fn is_ours(directory: &str) -> bool {
    let name = directory.trim_start_matches(|c: char| c.is_ascii_digit());
    Category::ALL.iter().any(|category| category.module() == name)
}

fn entries(directory: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let read = fs::read_dir(directory).and_then(|entries| entries.collect());
    read.map_err(Error::io("listing", directory))
}

/// Puts a finished image into its place; its size.
pub(super) fn publish(made: &Path, output: &Path) -> Result<u64, Error> {
    let failed = || Error::io("writing", output);
    let file = fs::File::open(made).map_err(failed())?;
    // As with the own image: boot servers read it as somebody else.
    file.set_permissions(Permissions::from_mode(0o644)).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    fs::rename(made, output).map_err(failed())?;
    sync_directory(parent(output))?;
    Ok(file.metadata().map_err(failed())?.len())
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn modules_of_an_installed_gse_give_way() {
        for (directory, ours) in
            [("50gse", true), ("53gse-storage", true), ("90gsettings", false), ("99base", false)]
        {
            assert_eq!(is_ours(directory), ours, "{directory}");
        }
    }
}
