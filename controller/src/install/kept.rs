//! Which files of an image lie under `.gse/pristine`, because the configuration has changed them. Pure.
//!
//! The configuration names a path as the booted system sees it, where `/lib` may be a link to `usr/lib`;
//! the index names each file by where it really is. The image's own links, which are in the
//! index too, lead from the one to the other.

use std::collections::HashMap;

use gse_protocol::{
    Index,
    index::{Entry, Kind},
};

use super::place::split;
use crate::configure::Applied;

/// As many links as Linux follows in a path (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// The copies below `.gse/pristine`, by the position of their file in the index.
pub(super) fn copies<'a>(index: &Index, applied: &'a Applied) -> HashMap<u32, &'a str> {
    let kept = applied.file.iter().filter(|(_, file)| file.pristine).map(|(path, _)| path.as_str());
    let kept: Vec<&str> = kept.collect();
    if kept.is_empty() {
        return HashMap::new();
    }
    let real = real(index, kept.into_iter());
    let entries = (0..).zip(&index.entries);
    entries.filter_map(|(number, entry)| Some((number, *real.get(&entry.path)?))).collect()
}

/// Where the paths really are that the configuration has put something at, files and directories, and what it calls
/// them.
pub(super) fn configured<'a>(index: &Index, applied: &'a Applied) -> HashMap<Vec<u8>, &'a str> {
    let paths = applied.file.keys().chain(&applied.directory);
    real(index, paths.map(String::as_str))
}

fn real<'a>(index: &Index, paths: impl Iterator<Item = &'a str>) -> HashMap<Vec<u8>, &'a str> {
    let links: Links<'_> = index.entries.iter().filter_map(link).collect();
    paths.filter_map(|path| Some((really(&links, path.as_bytes())?, path))).collect()
}

type Links<'i> = HashMap<&'i [u8], &'i [u8]>;

fn link(entry: &Entry) -> Option<(&[u8], &[u8])> {
    match &entry.kind {
        Kind::Symlink(target) => Some((&entry.path, target)),
        _ => None,
    }
}

/// Where the thing at `path` really is. Links on the way are followed as if the tree were the root
/// of the system, as [`crate::inside`] does; the last name is not.
fn really(links: &Links<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let (directory, name) = split(path);
    let mut at = Vec::new();
    // The next name is the last one.
    let mut ahead: Vec<&[u8]> = directory.rsplit(|b| *b == b'/').collect();
    let mut followed = 0;
    while let Some(name) = ahead.pop() {
        match name {
            b"" | b"." => {}
            b".." => at = split(&at).0.to_vec(),
            name => {
                let next = join(&at, name);
                let Some(target) = links.get(next.as_slice()) else {
                    at = next;
                    continue;
                };
                followed += 1;
                if followed > MOST_LINKS {
                    return None;
                }
                if target.starts_with(b"/") {
                    at.clear();
                }
                ahead.extend(target.rsplit(|b| *b == b'/'));
            }
        }
    }
    Some(join(&at, name))
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_image_lead_to_where_a_file_really_is() {
        let links: Links<'_> = [
            ("lib", "usr/lib"),
            ("usr/lib/here", "/etc/alternatives/"),
            ("etc/alternatives", "../var/./alternatives"),
            ("a/up", "../../../etc"),
            ("loop", "loop"),
            ("etc/name", "/elsewhere"),
        ]
        .into_iter()
        .map(|(from, to)| (from.as_bytes(), to.as_bytes()))
        .collect();
        for (path, real) in [
            ("etc/hostname", Some("etc/hostname")),
            ("/etc//hostname", Some("etc/hostname")),
            ("top", Some("top")),
            ("lib/x", Some("usr/lib/x")),
            ("lib/here/deep/x", Some("var/alternatives/deep/x")),
            ("a/up/x", Some("etc/x")),
            ("etc/name", Some("etc/name")),
            ("loop/x", None),
        ] {
            let found = really(&links, path.as_bytes());
            assert_eq!(found, real.map(|path| path.as_bytes().to_vec()), "{path}");
        }
    }
}
