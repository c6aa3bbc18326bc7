//! What differs between two images, by what machines have to fetch. Pure.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use gse_protocol::{
    Index, Sha256,
    index::{Content, Entry, Extent, Kind},
    patch::PatchFile,
};
use indicatif::{BinaryBytes, HumanCount};
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

/// Some files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amount {
    /// How many.
    pub files: usize,
    /// Their bytes, without holes.
    pub bytes: u64,
}

/// What differs between two images, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Difference {
    /// [`Change::Same`]
    pub same: Amount,
    /// [`Change::Moved`]
    pub moved: Amount,
    /// [`Change::Changed`]
    pub changed: Amount,
    /// [`Change::New`]
    pub new: Amount,
    /// Files whose path the newer image has not.
    pub gone: Amount,
    /// Bytes of the patch file that machines with the older image fetch, if there is one.
    pub patch: Option<u64>,
    /// Bytes of the newer image, as all others fetch it.
    pub image: u64,
}

impl Difference {
    /// Compares two images.
    pub fn new(old: &Index, new: &Index) -> Self {
        let Comparison { files, gone } = compare(old, new);
        let patch = new.patches.iter().find(|patch| patch.version == old.version);
        let mut difference =
            Self { patch: patch.map(PatchFile::size), image: new.packed_size(), ..Self::default() };
        let add = |amount: &mut Amount, index: &Index, number: u32| {
            let entry = index.entries.get(number as usize);
            if let Some(Entry { kind: Kind::File(content), .. }) = entry {
                amount.files += 1;
                amount.bytes += content.stored();
            }
        };
        for (number, change) in files {
            let amount = match change {
                Change::Same => &mut difference.same,
                Change::Moved => &mut difference.moved,
                Change::Changed => &mut difference.changed,
                Change::New => &mut difference.new,
            };
            add(amount, new, number);
        }
        gone.into_iter().for_each(|number| add(&mut difference.gone, old, number));
        difference
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, Amount { files, bytes }) in [
            ("same", self.same),
            ("moved", self.moved),
            ("changed", self.changed),
            ("new", self.new),
            ("gone", self.gone),
        ] {
            writeln!(f, "{name:8}{:>10} files {:>14}", HumanCount(files as u64), size(bytes))?;
        }
        match self.patch {
            Some(patch) => writeln!(f, "machines with the older image fetch {}", size(patch))?,
            None => writeln!(f, "there is no patch file from the older image")?,
        }
        write!(f, "a first installation fetches {}", size(self.image))
    }
}

fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
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
