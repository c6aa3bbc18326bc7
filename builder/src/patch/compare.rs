//! What differs between two images, by what machines have to fetch. Pure.

use std::collections::{HashMap, HashSet};

use gse_protocol::{
    Index, Sha256,
    index::{Content, Entry, Extent, Kind},
};
use serde::Serialize;

/// How a file of the newer image relates to the older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The same content at the same path.
    Same,
    /// The same content, which the older image has at other paths.
    Moved,
    /// The path is there, with other content.
    Changed,
    /// Neither the path nor the content is there.
    New,
}

/// All files of the newer image that have content.
pub struct Comparison {
    /// Each by its position in the newer index, in its order.
    pub files: Vec<(u32, Change)>,
    /// Files of the older image whose path the newer one has not, by their position.
    pub gone: Vec<u32>,
}

/// Compares two images by their indices.
pub fn compare(old: &Index, new: &Index) -> Comparison {
    let contents: HashSet<Key<'_>> = files(old).map(|(_, _, content)| key(content)).collect();
    let paths: HashMap<&[u8], &Content> =
        files(old).map(|(_, entry, content)| (entry.path.as_slice(), content)).collect();
    let change = |entry: &Entry, content: &Content| match paths.get(entry.path.as_slice()) {
        Some(old) if key(old) == key(content) => Change::Same,
        _ if contents.contains(&key(content)) => Change::Moved,
        Some(_) => Change::Changed,
        None => Change::New,
    };
    let present: HashSet<&[u8]> = new.entries.iter().map(|entry| entry.path.as_slice()).collect();
    Comparison {
        files: files(new).map(|(number, entry, c)| (number, change(entry, c))).collect(),
        gone: files(old)
            .filter(|(_, entry, _)| !present.contains(entry.path.as_slice()))
            .map(|(number, _, _)| number)
            .collect(),
    }
}

type Key<'i> = (&'i Sha256, u64, &'i Option<Vec<Extent>>);

fn key(content: &Content) -> Key<'_> {
    (&content.sha256, content.size, &content.extents)
}

/// The files that have stored bytes, with their position.
pub(super) fn files(index: &Index) -> impl Iterator<Item = (u32, &Entry, &Content)> {
    (0..).zip(&index.entries).filter_map(|(number, entry)| match &entry.kind {
        Kind::File(content) if content.stored() > 0 => Some((number, entry, content)),
        _ => None,
    })
}
