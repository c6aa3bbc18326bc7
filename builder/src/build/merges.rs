//! Configuration files that a package brings where somebody has changed the old one: Portage puts them beside it, as
//! `._cfg0000_NAME`, and leaves the decision to people (<https://wiki.gentoo.org/wiki/Dispatch-conf>).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Error, ask::Choice, inside::Inside};

/// What becomes of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It takes the place of the old one.
    Take,
    /// It goes: the configuration has said what is to be there.
    Drop,
    /// Somebody has to decide.
    Ask,
}

/// Comments and white space may differ, as with dispatch-conf's `replace-wscomments`; and what the configuration wrote stays.
fn judge(old: Option<&[u8]>, new: &[u8], configured: bool) -> Verdict {
    match old {
        _ if configured => Verdict::Drop,
        None => Verdict::Take,
        Some(old) if meaning(old) == meaning(new) => Verdict::Take,
        Some(_) => Verdict::Ask,
    }
}

/// The words of lines that are no comments. A line with a `#` further on has it as it is: there it may mean anything.
fn meaning(text: &[u8]) -> Vec<Vec<&[u8]>> {
    let lines = text.split(|byte| *byte == b'\n').map(words);
    lines.filter(|words| words.first().is_some_and(|word| !word.starts_with(b"#"))).collect()
}

fn words(line: &[u8]) -> Vec<&[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect()
}

/// The name that a file of Portage's is for.
fn meant_for(name: &str) -> Option<(u32, &str)> {
    let (number, name) = name.strip_prefix("._cfg")?.split_once('_')?;
    Some((number.parse().ok()?, name)).filter(|(_, name)| !name.is_empty())
}

const NEW: Choice = Choice { word: "new", meaning: "the package's" };
const OLD: Choice = Choice { word: "old", meaning: "the one that is there" };
const LATER: Choice = Choice { word: "later", meaning: "keep both, for dispatch-conf" };

/// Decides what can be decided, asks about the rest, and lists what nobody was there for.
pub(super) fn settle(inside: &mut Inside<'_>) -> Result<(), Error> {
    let mut found = BTreeMap::new();
    for folder in protected() {
        gather(&folder, &mut found)
            .map_err(Error::io("looking for new configuration in", &folder))?;
    }
    let mut open = Vec::new();
    for (path, mut files) in found {
        let Some((_, latest)) = files.pop_last() else { continue };
        for (_, older) in files {
            fs::remove_file(&older).map_err(Error::io("removing", &older))?;
        }
        let relative = path.strip_prefix("/").unwrap_or(&path).to_string_lossy();
        let configured = inside.system.files.contains_key(relative.as_ref());
        let new = fs::read(&latest).map_err(Error::io("reading", &latest))?;
        let verdict = judge(fs::read(&path).ok().as_deref(), &new, configured);
        let take = match verdict {
            Verdict::Take => true,
            Verdict::Drop => false,
            Verdict::Ask => {
                let question = format!(
                    "A package brings another {}: {} lies beside it. Which one stays?",
                    path.display(),
                    latest.display()
                );
                match inside.loops.asker.choose(&question, &[NEW, OLD, LATER]) {
                    Some("new") => true,
                    Some("old") => false,
                    _ => {
                        open.push(path);
                        continue;
                    }
                }
            }
        };
        if take {
            inside.note(&format!("{}: the new one is taken", path.display()));
            fs::rename(&latest, &path).map_err(Error::io("replacing", &path))?;
        } else {
            inside.note(&format!("{}: the one that is there stays", path.display()));
            fs::remove_file(&latest).map_err(Error::io("removing", &latest))?;
        }
    }
    if !open.is_empty() {
        let names: Vec<_> = open.iter().map(|path| format!("  {}", path.display())).collect();
        inside.warn(&format!(
            "packages bring other versions of these files; the old ones stay, and the new ones lie beside them. Put what should be \
             there into system/files of the configuration, or run dispatch-conf in the system:\n{}",
            names.join("\n")
        ));
    }
    Ok(())
}

/// Where Portage protects files: `/etc`, and what packages add in `/etc/env.d`.
fn protected() -> Vec<PathBuf> {
    let text = fs::read_to_string("/etc/profile.env").unwrap_or_default();
    let more = super::inside::profile_env(&text);
    let more = more.into_iter().filter(|(name, _)| name == "CONFIG_PROTECT");
    let more = more.flat_map(|(_, v)| v.split_whitespace().map(PathBuf::from).collect::<Vec<_>>());
    let mut folders: Vec<PathBuf> = [PathBuf::from("/etc")].into_iter().chain(more).collect();
    folders.sort();
    // One that is in another is seen there already.
    folders.dedup_by(|next, folder| next.starts_with(folder));
    folders.retain(|folder| folder.is_dir());
    folders
}

/// New files by the path they are for, and by their numbers.
fn gather(folder: &Path, found: &mut BTreeMap<PathBuf, BTreeMap<u32, PathBuf>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            gather(&path, found)?;
        } else if let Some((number, name)) = meant_for(&name.to_string_lossy()) {
            found.entry(folder.join(name)).or_default().insert(number, path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_taken_and_what_the_configuration_says_stays() {
        let judge = |old: &str, new: &str| judge(Some(old.as_bytes()), new.as_bytes(), false);
        for (old, new, expected) in [
            ("a = 1\n", "a = 1\n", Verdict::Take),
            ("# one\na = 1\n", "# two\n\n a  =\t1\n", Verdict::Take),
            ("a = 1\n", "a = 2\n", Verdict::Ask),
            ("a = 1 # x\n", "a = 1 # y\n", Verdict::Ask),
            ("a = 1\n", "", Verdict::Ask),
            ("a\nb\n", "b\na\n", Verdict::Ask),
        ] {
            assert_eq!(judge(old, new), expected, "{old:?} {new:?}");
        }
        assert_eq!(super::judge(None, b"a", false), Verdict::Take);
        assert_eq!(super::judge(Some(b"a"), b"a", true), Verdict::Drop);
    }

    #[test]
    fn new_files_are_found_by_their_names_the_latest_last() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("conf.d")).unwrap();
        for name in
            ["conf.d/._cfg0000_net", "conf.d/._cfg0001_net", "._cfg0000_a_b", "._cfg_x", "b"]
        {
            fs::write(etc.path().join(name), "").unwrap();
        }
        let mut found = BTreeMap::new();
        gather(etc.path(), &mut found).unwrap();
        let names: Vec<_> = found.keys().map(|p| p.strip_prefix(etc.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a_b"), Path::new("conf.d/net")]);
        let net = found.get(&etc.path().join("conf.d/net")).unwrap();
        assert!(net.last_key_value().unwrap().1.ends_with("._cfg0001_net") && net.len() == 2);
    }
}
