//! The effects of phase 7.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::{
    self,
    bundle::File,
    system::{FILE_MASK, FOLDER_MASK},
};

use super::{Applied, Change, Current, Directory, Now, OwnedFile, Thing, Wishes, plan::ancestors};
use crate::{
    copy::copy_tree,
    files,
    inside::{self, Inside},
    log::Log,
};

const RECORD: &str = "applied.toml";
/// Where the image's own copies are, in the directory of the records.
pub const PRISTINE: &str = "pristine";
/// Where what was there before this run waits, so that a failure can be undone.
const UNDO: &str = "undo";

/// What was applied before. A record that cannot be read is an error: the image's own files would be
/// taken for the configuration's.
pub fn load(gse: &Path) -> Result<Applied> {
    let path = gse.join(RECORD);
    match fs::read_to_string(&path) {
        Ok(text) => {
            config::parse(RECORD, &text).with_context(|| format!("reading {}", path.display()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Applied::default()),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

/// What is in the system, as far as it matters for these wishes and for what was done before.
///
/// # Errors
/// Those of the system.
pub fn look(root: &Path, wishes: &Wishes, before: &Applied) -> Result<Now> {
    let things = wishes.generated.iter().flatten().chain(&wishes.things);
    let files = before.file.keys().chain(things.map(|wanted| &wanted.path));
    let folders = before.directory.iter().chain(wishes.directories.iter().map(|(path, _)| path));
    // Each path comes after what it lies in.
    let mut paths: Vec<&str> = Vec::new();
    for path in folders.chain(files) {
        for path in ancestors(path).chain([path.as_str()]) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let is_carried = |path: &str| {
        wishes.generated.is_none()
            && before.file.get(path).is_some_and(|file| file.generated)
            && wishes.things.iter().all(|wanted| wanted.path != path)
    };
    let mut now = Now::default();
    let mut masks: Vec<&str> = Vec::new();
    let all = has(root, FOLDER_MASK);
    for path in paths {
        let current = match Inside::find(root, path)? {
            // Megabytes that nothing is compared with.
            Some(_) if is_carried(path) => Current::Other,
            Some(inside) => current(&inside, path)?,
            None => Current::Is(Thing::Nothing),
        };
        if current == Current::Directory && has(root, &format!("{path}/{FOLDER_MASK}")) {
            masks.push(path);
        }
        let line = |line: &[u8]| line.starts_with(FILE_MASK.as_bytes());
        let by_line = matches!(&current, Current::Is(Thing::File(owned))
            if owned.file.bytes.split(|b| *b == b'\n').any(line));
        if all || by_line || ancestors(path).chain([path]).any(|part| masks.contains(&part)) {
            now.masked.push(path.to_owned());
        }
        now.at.push((path.to_owned(), current));
    }
    Ok(now)
}

fn has(root: &Path, path: &str) -> bool {
    let found = Inside::find(root, path);
    found.is_ok_and(|found| found.is_some_and(|at| fs::symlink_metadata(at.path()).is_ok()))
}

fn current(inside: &Inside, path: &str) -> Result<Current> {
    let at = inside.path();
    let reading = || format!("reading /{path} of the image");
    let meta = match fs::symlink_metadata(&at) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Current::Is(Thing::Nothing)),
        meta => meta.with_context(reading)?,
    };
    Ok(if meta.is_dir() {
        Current::Directory
    } else if meta.is_file() {
        let file = File {
            mode: meta.permissions().mode() & 0o7777,
            bytes: fs::read(&at).with_context(reading)?,
        };
        Current::Is(Thing::File(OwnedFile { file, uid: meta.uid(), gid: meta.gid() }))
    } else if meta.is_symlink() {
        let target = fs::read_link(&at).with_context(reading)?.into_os_string().into_string();
        target.map_or(Current::Other, |target| Current::Is(Thing::Link(target)))
    } else {
        Current::Other
    })
}

/// Makes the changes to the system at `root`, whose records are in `gse`; both must be writable. If one
/// fails, all are undone. After a power cut the next run finds what is left to do.
///
/// # Errors
/// The first that fails, with what was being done.
pub fn run(
    root: &Path,
    gse: &Path,
    changes: &[Change],
    before: &Applied,
    after: &Applied,
    log: &Log,
) -> Result<()> {
    let undo = gse.join(UNDO);
    remove_all(&undo)?;
    let mut done = Vec::new();
    let result = (|| {
        for change in changes {
            if let Change::Keep(path) = change {
                keep(root, path, &gse.join(PRISTINE))?;
            }
        }
        // From here on, a power cut must find each path that may have changed, and its own copy.
        let mut both = before.clone();
        both.directory.extend(after.directory.iter().cloned());
        both.file.extend(after.file.clone());
        record(gse, &both)?;
        for change in changes {
            if let Change::Put(path, _) | Change::Restore(path) | Change::Remove(path) = change {
                keep(root, path, &undo)?;
            }
            done.push(change);
            apply(root, gse, change).with_context(|| format!("applying {}", describe(change)))?;
        }
        record(gse, after)
    })();
    if let Err(e) = result {
        log.warn("the configuration could not be applied; the system stays as it was");
        for change in done.into_iter().rev() {
            match change {
                Change::Put(path, _) | Change::Restore(path) | Change::Remove(path) => {
                    restore(root, path, &undo)?;
                }
                Change::MakeDirectory(path, _) => remove_directory(root, path)?,
                Change::RemoveDirectory(path) => {
                    inside::make_directory(root, Path::new(path))?;
                }
                Change::Keep(_) => {}
            }
        }
        record(gse, before)?;
        remove_all(&undo)?;
        return Err(e);
    }
    for (path, file) in &before.file {
        if file.pristine && !after.file.contains_key(path) {
            let _ = fs::remove_file(gse.join(PRISTINE).join(path));
        }
    }
    remove_all(&undo)
}

fn describe(change: &Change) -> String {
    match change {
        Change::MakeDirectory(path, _) | Change::RemoveDirectory(path) => {
            format!("the directory /{path}")
        }
        Change::Keep(path) | Change::Put(path, _) => format!("/{path}"),
        Change::Restore(path) | Change::Remove(path) => format!("/{path}, back to the image's own"),
    }
}

fn apply(root: &Path, gse: &Path, change: &Change) -> Result<()> {
    match change {
        Change::MakeDirectory(path, directory) => make_directory(root, path, *directory),
        Change::Keep(_) => Ok(()),
        Change::Put(path, Thing::Nothing) | Change::Remove(path) => remove(root, path),
        Change::Put(path, Thing::File(OwnedFile { file, uid, gid })) => {
            let inside = Inside::make(root, path)?;
            let owner = Some((*uid, *gid));
            Ok(files::replace_owned(&inside.path(), &file.bytes, file.mode, owner)?)
        }
        Change::Put(path, Thing::Link(target)) => {
            let inside = Inside::make(root, path)?;
            let beside = beside(&inside)?;
            symlink(target, &beside)?;
            fs::rename(&beside, inside.path())?;
            Ok(inside.sync()?)
        }
        Change::Restore(path) => restore(root, path, &gse.join(PRISTINE)),
        Change::RemoveDirectory(path) => remove_directory(root, path),
    }
}

fn make_directory(root: &Path, path: &str, directory: Directory) -> Result<()> {
    let inside = Inside::make(root, path)?;
    let at = inside.path();
    fs::create_dir(&at)?;
    chown(&at, Some(directory.uid), Some(directory.gid))?;
    // Whatever the umask was.
    fs::set_permissions(&at, fs::Permissions::from_mode(directory.mode))?;
    Ok(inside.sync()?)
}

/// Something may be in it by now, which is not the configuration's.
fn remove_directory(root: &Path, path: &str) -> Result<()> {
    let Some(inside) = Inside::find(root, path)? else { return Ok(()) };
    match fs::remove_dir(inside.path()) {
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(e).with_context(|| format!("removing the directory /{path}"))
        }
        _ => Ok(()),
    }
}

/// A free path beside the name, for what is to take its place.
fn beside(inside: &Inside) -> Result<PathBuf> {
    let mut name = inside.name().to_owned();
    name.push(files::UNFINISHED);
    let beside = inside.beside(&name);
    remove_all(&beside)?;
    Ok(beside)
}

/// Copies what is at `path` below `store`, unless a copy is there already. Nothing there: nothing kept.
fn keep(root: &Path, path: &str, store: &Path) -> Result<()> {
    let Some(inside) = Inside::find(root, path)? else { return Ok(()) };
    let copy = store.join(path);
    if fs::symlink_metadata(inside.path()).is_err() || fs::symlink_metadata(&copy).is_ok() {
        return Ok(());
    }
    let parent = copy.parent().unwrap_or(store);
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    // A copy that a power cut left half-made must not pass for a whole one.
    let mut name = copy.file_name().unwrap_or_default().to_owned();
    name.push(files::UNFINISHED);
    let half = copy.with_file_name(name);
    remove_all(&half)?;
    copy_tree(&inside.path(), &half)?;
    if let Ok(file) = fs::File::open(&half) {
        file.sync_all().with_context(|| format!("writing {}", half.display()))?;
    }
    fs::rename(&half, &copy).with_context(|| format!("writing {}", copy.display()))?;
    files::sync_parent(&copy).with_context(|| format!("writing {}", copy.display()))
}

/// Puts the copy in `store` back; without one, what is there goes.
fn restore(root: &Path, path: &str, store: &Path) -> Result<()> {
    let copy = store.join(path);
    if fs::symlink_metadata(&copy).is_err() {
        return remove(root, path);
    }
    let inside = Inside::make(root, path)?;
    let beside = beside(&inside)?;
    copy_tree(&copy, &beside)?;
    fs::rename(&beside, inside.path()).with_context(|| format!("putting /{path} back"))?;
    inside.sync().with_context(|| format!("putting /{path} back"))
}

fn remove(root: &Path, path: &str) -> Result<()> {
    let Some(inside) = Inside::find(root, path)? else { return Ok(()) };
    match fs::remove_file(inside.path()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing /{path}"))
        }
        _ => Ok(()),
    }
}

fn record(gse: &Path, applied: &Applied) -> Result<()> {
    let path = gse.join(RECORD);
    let text = toml::to_string(applied).context("writing down what was applied")?;
    files::replace(&path, text.as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))
}

fn remove_all(path: &Path) -> Result<()> {
    let done = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    done.with_context(|| format!("removing {}", path.display()))
}
