//! Local trees that content can be taken from, and which of their files have it. Pure.

use std::collections::HashMap;

use gse_protocol::{
    Index,
    index::{Content, Entry},
};

use super::{LocalTree, plan::file};

/// How many places of the same content are tried, should the first ones be damaged.
const PLACES: usize = 4;

/// A local tree, and the signed index of what was installed there.
pub struct Seed<'s> {
    /// Its files. They are only believed by their digest.
    pub(super) tree: &'s LocalTree,
    /// What they should be.
    pub(super) index: &'s Index,
    /// What the configuration has changed, and where the image's own content of it is.
    pub(super) kept: HashMap<u32, &'s str>,
}

impl<'s> Seed<'s> {
    /// The files of `tree`, which was made from `index`.
    pub fn new(tree: &'s LocalTree, index: &'s Index) -> Self {
        Self { tree, index, kept: tree.kept(index) }
    }
}

/// A file of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which seed.
    pub(super) seed: usize,
    /// The file, by its position in the seed's index.
    pub(super) entry: u32,
}

/// All files of all seeds, by their content.
pub(super) struct Known<'s> {
    pub(super) seeds: &'s [Seed<'s>],
    /// The first bytes of each digest, sorted; a seed that was given earlier comes first.
    files: Vec<(u64, Place)>,
}

impl<'s> Known<'s> {
    pub(super) fn new(seeds: &'s [Seed<'s>]) -> Self {
        let mut files = Vec::new();
        for (seed, Seed { index, .. }) in seeds.iter().enumerate() {
            let stored = (0..index.entries.len() as u32)
                .filter_map(|entry| Some((entry, file(index, entry)?.1)))
                .filter(|(_, content)| content.stored() > 0);
            files.extend(stored.map(|(entry, c)| (prefix(c), Place { seed, entry })));
        }
        files.sort_unstable();
        Self { seeds, files }
    }

    /// Files that have this content and the same holes: those with the same path first, wherever they are.
    pub(super) fn same(&self, entry: &Entry, content: &Content) -> Vec<Place> {
        let wanted = prefix(content);
        let first = self.files.partition_point(|(found, _)| *found < wanted);
        let found = self.files.iter().skip(first).take_while(|(found, _)| *found == wanted);
        let mut places: Vec<(bool, Place)> = found
            .filter_map(|(_, place)| {
                let (other, found) = self.file(*place)?;
                let same = found.sha256 == content.sha256
                    && found.size == content.size
                    && found.extents == content.extents;
                same.then_some((other.path != entry.path, *place))
            })
            .collect();
        places.sort_unstable();
        places.into_iter().map(|(_, place)| place).take(PLACES).collect()
    }

    /// The entry at a place, and its content.
    pub(super) fn file(&self, place: Place) -> Option<(&'s Entry, &'s Content)> {
        file(self.seeds.get(place.seed)?.index, place.entry)
    }
}

fn prefix(content: &Content) -> u64 {
    content.sha256.0.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
