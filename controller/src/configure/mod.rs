//! Phase 7: the files of the configuration, put into the installed system.
//!
//! What the image had at such a path is kept in `.gse/pristine/`, so that a file that is taken out of
//! the configuration goes back to the image's own, and a clone stays verifiable. [`plan`] compares and
//! touches nothing; only if it finds a change is SYSFS mounted writable for [`run`].

mod run;

use std::collections::BTreeMap;

use gse_protocol::{Sha256, config::bundle::File};
use serde::{Deserialize, Serialize};

pub use run::{PRISTINE, current, load, run};

/// What the configuration has put into a system: `.gse/applied.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// By path relative to the system's root.
    #[serde(default)]
    pub file: BTreeMap<String, AppliedFile>,
}

/// One file that was put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedFile {
    /// Of what was written.
    pub sha256: Sha256,
    /// Whether the image had something at this path, which is kept.
    pub pristine: bool,
}

/// What is at a path in the system now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(File),
    /// A directory, which is never replaced by a file.
    Directory,
    /// A link or a node.
    Other,
}

/// One change to the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make a directory that something is to be mounted on.
    MakeDirectory(String),
    /// Keep the image's own copy.
    Keep(String),
    /// Write the file.
    Write(String, File),
    /// Put the image's own copy back.
    Restore(String),
    /// Remove a file that the image never had.
    Remove(String),
}

/// The configuration wants a file where the image has a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has a file /{0}, but the image has a directory there")]
pub struct IsDirectory(String);

/// The changes that bring a system to what the configuration says, and the record afterwards.
pub fn plan(
    desired: &BTreeMap<String, File>,
    mount_points: &[String],
    applied: &Applied,
    current: &BTreeMap<String, Current>,
) -> Result<(Vec<Change>, Applied), IsDirectory> {
    let now = |path: &str| current.get(path).unwrap_or(&Current::Nothing);
    let mut changes: Vec<Change> = mount_points
        .iter()
        .filter(|path| *now(path) == Current::Nothing)
        .map(|path| Change::MakeDirectory(path.clone()))
        .collect();
    let mut after = Applied::default();
    for (path, file) in desired {
        let had = now(path);
        let before = applied.file.get(path);
        if *had == Current::Directory {
            return Err(IsDirectory(path.clone()));
        }
        let same = *had == Current::File(file.clone());
        if same && before.is_none() {
            continue;
        }
        let pristine = before.map_or(*had != Current::Nothing, |b| b.pristine);
        if before.is_none() && pristine {
            changes.push(Change::Keep(path.clone()));
        }
        if !same {
            changes.push(Change::Write(path.clone(), file.clone()));
        }
        let sha256 = Sha256::of(&file.bytes);
        after.file.insert(path.clone(), AppliedFile { sha256, pristine });
    }
    let gone = applied.file.iter().filter(|(path, _)| !desired.contains_key(*path));
    changes.extend(gone.map(|(path, file)| match file.pristine {
        true => Change::Restore(path.clone()),
        false => Change::Remove(path.clone()),
    }));
    Ok((changes, after))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { mode: 0o644, bytes: text.as_bytes().to_vec() }
    }

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, File> {
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn present(list: &[(&str, &str)]) -> BTreeMap<String, Current> {
        files(list).into_iter().map(|(path, file)| (path, Current::File(file))).collect()
    }

    #[test]
    fn the_images_own_file_is_kept_before_it_is_replaced() {
        let (changes, after) = plan(
            &files(&[("etc/a", "new")]),
            &[],
            &Applied::default(),
            &present(&[("etc/a", "old")]),
        )
        .unwrap();
        let path = || "etc/a".to_owned();
        assert_eq!(changes, [Change::Keep(path()), Change::Write(path(), file("new"))]);
        assert!(after.file.get("etc/a").unwrap().pristine);
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let desired = files(&[("etc/a", "new"), ("etc/b", "same")]);
        let before = present(&[("etc/a", "old"), ("etc/b", "same")]);
        let (_, after) = plan(&desired, &[], &Applied::default(), &before).unwrap();
        let now = present(&[("etc/a", "new"), ("etc/b", "same")]);
        assert_eq!(plan(&desired, &[], &after, &now).unwrap(), (vec![], after));
    }

    #[test]
    fn a_changed_file_is_written_again_and_the_first_copy_stays() {
        let desired = files(&[("etc/a", "1")]);
        let (_, after) =
            plan(&desired, &[], &Applied::default(), &present(&[("etc/a", "0")])).unwrap();
        let (changes, _) =
            plan(&files(&[("etc/a", "2")]), &[], &after, &present(&[("etc/a", "1")])).unwrap();
        assert_eq!(changes, [Change::Write("etc/a".to_owned(), file("2"))]);
    }

    #[test]
    fn what_leaves_the_configuration_goes_back_to_the_images_own() {
        let desired = files(&[("etc/a", "x"), ("etc/new", "x")]);
        let (_, after) =
            plan(&desired, &[], &Applied::default(), &present(&[("etc/a", "0")])).unwrap();
        let (changes, after) = plan(&BTreeMap::new(), &[], &after, &present(&[])).unwrap();
        let expected = [Change::Restore("etc/a".to_owned()), Change::Remove("etc/new".to_owned())];
        assert_eq!(changes, expected);
        assert_eq!(after, Applied::default());
    }

    #[test]
    fn a_directory_is_never_replaced_by_a_file() {
        let current = BTreeMap::from([("etc/a".to_owned(), Current::Directory)]);
        let result = plan(&files(&[("etc/a", "x")]), &[], &Applied::default(), &current);
        assert_eq!(result, Err(IsDirectory("etc/a".to_owned())));
    }

    #[test]
    fn missing_mount_points_are_made() {
        let points = ["user-data".to_owned(), "etc".to_owned()];
        let current = BTreeMap::from([("etc".to_owned(), Current::Directory)]);
        let (changes, _) = plan(&BTreeMap::new(), &points, &Applied::default(), &current).unwrap();
        assert_eq!(changes, [Change::MakeDirectory("user-data".to_owned())]);
    }
}
