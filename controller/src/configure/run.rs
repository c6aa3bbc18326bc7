//! The effects of phase 7.

use std::{collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use gse_protocol::config::{self, bundle::File};

use super::{Applied, AppliedFile, Change, Current};
use crate::{
    copy::copy_tree,
    files,
    inside::{self, Inside},
    log::{Log, reason},
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

/// What is at each of these paths in the system.
pub fn current<'p>(
    root: &Path,
    paths: impl Iterator<Item = &'p String>,
) -> Result<BTreeMap<String, Current>> {
    let mut out = BTreeMap::new();
    for path in paths {
        let Some(inside) = Inside::find(root, path)? else { continue };
        let at = inside.path();
        let current = match fs::symlink_metadata(&at) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Current::Nothing,
            Err(e) => return Err(e).with_context(|| format!("looking at /{path} of the image")),
            Ok(meta) if meta.is_dir() => Current::Directory,
            Ok(meta) if meta.is_file() => {
                let bytes =
                    fs::read(&at).with_context(|| format!("reading /{path} of the image"))?;
                Current::File(File { mode: meta.permissions().mode() & 0o7777, bytes })
            }
            Ok(_) => Current::Other,
        };
        out.insert(path.clone(), current);
    }
    Ok(out)
}

/// Makes the changes to the system at `root`, whose records are in `gse`; both must be writable. If one
/// fails, all are undone. After a power cut the next run finds what is left to do.
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
        both.file.extend(after.file.clone());
        record(gse, &both)?;
        for change in changes {
            if let Change::Write(path, _) | Change::Restore(path) | Change::Remove(path) = change {
                keep(root, path, &undo)?;
                done.push(path);
            }
            apply(root, gse, change).with_context(|| format!("applying {}", describe(change)))?;
        }
        record(gse, after)
    })();
    if let Err(e) = result {
        log.warn(format_args!(
            "the configuration could not be applied; the system stays as it was: {}",
            reason(&e)
        ));
        for path in done.into_iter().rev() {
            restore(root, path, &undo)?;
        }
        record(gse, before)?;
        remove_all(&undo)?;
        return Err(e);
    }
    for (path, file) in &before.file {
        if matches!(file, AppliedFile { pristine: true, .. }) && !after.file.contains_key(path) {
            let _ = fs::remove_file(gse.join(PRISTINE).join(path));
        }
    }
    remove_all(&undo)
}

fn describe(change: &Change) -> String {
    match change {
        Change::MakeDirectory(path) => format!("the directory /{path}"),
        Change::Keep(path) | Change::Write(path, _) => format!("/{path}"),
        Change::Restore(path) | Change::Remove(path) => format!("/{path}, back to the image's own"),
    }
}

fn apply(root: &Path, gse: &Path, change: &Change) -> Result<()> {
    match change {
        Change::MakeDirectory(path) => inside::make_directory(root, Path::new(path)).map(drop),
        Change::Keep(_) => Ok(()),
        Change::Write(path, file) => {
            let inside = Inside::make(root, path)?;
            Ok(files::replace(&inside.path(), &file.bytes, file.mode)?)
        }
        Change::Restore(path) => restore(root, path, &gse.join(PRISTINE)),
        Change::Remove(path) => remove(root, path),
    }
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
    name.push(".gse-new");
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
    let mut name = inside.name().to_owned();
    name.push(".gse-new");
    let beside = inside.beside(&name);
    remove_all(&beside)?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::configure::plan;

    struct System(tempfile::TempDir);

    impl System {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("root/etc")).unwrap();
            fs::create_dir(dir.path().join("gse")).unwrap();
            for (path, text) in files {
                fs::write(dir.path().join("root").join(path), text).unwrap();
            }
            Self(dir)
        }

        fn apply(&self, desired: &[(&str, &str)]) -> Result<usize> {
            let (root, gse) = (self.0.path().join("root"), self.0.path().join("gse"));
            let desired: BTreeMap<_, _> = desired
                .iter()
                .map(|(p, t)| ((*p).to_owned(), File { mode: 0o640, bytes: t.as_bytes().to_vec() }))
                .collect();
            let before = load(&gse)?;
            let current = current(&root, desired.keys().chain(before.file.keys()))?;
            let (changes, after) = plan(&desired, &[], &before, &current)?;
            if !changes.is_empty() {
                run(&root, &gse, &changes, &before, &after, &Log::console())?;
            }
            Ok(changes.len())
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.0.path().join("root").join(path)).ok()
        }
    }

    #[test]
    fn files_come_and_go_and_the_images_own_returns() {
        let system = System::new(&[("etc/hostname", "image\n")]);
        let mode = |path: &str| {
            fs::metadata(system.0.path().join("root").join(path)).unwrap().permissions().mode()
        };
        let own = mode("etc/hostname");
        assert_eq!(system.apply(&[("etc/hostname", "lab\n"), ("etc/deep/new", "x")]).unwrap(), 3);
        assert_eq!(system.read("etc/hostname").as_deref(), Some("lab\n"));
        assert_eq!(mode("etc/hostname") & 0o777, 0o640);
        assert_eq!(system.apply(&[("etc/hostname", "lab\n"), ("etc/deep/new", "x")]).unwrap(), 0);
        assert_eq!(system.apply(&[]).unwrap(), 2);
        assert_eq!(system.read("etc/hostname").as_deref(), Some("image\n"));
        assert_eq!(mode("etc/hostname"), own);
        assert_eq!(system.read("etc/deep/new"), None);
    }

    #[test]
    fn a_failed_application_is_undone_whole() {
        let system = System::new(&[("etc/a", "image"), ("etc/file", "")]);
        system.apply(&[("etc/a", "1")]).unwrap();
        // A file cannot lie below a file.
        assert!(system.apply(&[("etc/a", "2"), ("etc/b", "2"), ("etc/file/x", "2")]).is_err());
        assert_eq!(system.read("etc/a").as_deref(), Some("1"));
        assert_eq!(system.read("etc/b"), None);
        assert_eq!(system.apply(&[("etc/a", "1")]).unwrap(), 0);
        system.apply(&[]).unwrap();
        assert_eq!(system.read("etc/a").as_deref(), Some("image"));
    }

    #[test]
    fn links_of_the_image_are_followed_inside_the_image() {
        let system = System::new(&[]);
        let root = system.0.path().join("root");
        fs::create_dir(root.join("real")).unwrap();
        symlink("/real", root.join("etc/absolute")).unwrap();
        symlink("/etc/elsewhere", root.join("etc/link")).unwrap();
        system.apply(&[("etc/absolute/x", "1"), ("etc/link", "2")]).unwrap();
        assert_eq!(system.read("real/x").as_deref(), Some("1"));
        // The link itself is replaced, and comes back.
        assert_eq!(system.read("etc/link").as_deref(), Some("2"));
        system.apply(&[]).unwrap();
        assert_eq!(fs::read_link(root.join("etc/link")).unwrap(), Path::new("/etc/elsewhere"));
    }
}
