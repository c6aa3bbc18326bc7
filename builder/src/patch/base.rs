//! Which file of the older image a patch starts from. Pure.
//!
//! The file at the same path; else one whose path differs in digits alone, as a new kernel's modules and
//! libraries of a new version do; else one of such a name elsewhere; else one of similar content ([`sketch`]).

use std::collections::HashMap;

use gse_protocol::{Index, index::Content};

use super::{
    compare::files,
    sketch::{Sketch, most_alike},
};

/// How far sizes may differ for a name to count: no patch pays for what is mostly new.
const SIZES: u64 = 8;

/// The files of the older image, by what they are looked for.
pub(super) struct Bases<'i> {
    old: &'i Index,
    paths: HashMap<&'i [u8], u32>,
    alike: HashMap<Vec<u8>, Vec<u32>>,
    names: HashMap<Vec<u8>, Vec<u32>>,
    sketches: Vec<(u32, Sketch)>,
}

impl<'i> Bases<'i> {
    /// `sketches`: of those files that can be found by their content.
    pub(super) fn new(old: &'i Index, sketches: Vec<(u32, Sketch)>) -> Self {
        let mut bases = Self {
            old,
            paths: HashMap::new(),
            alike: HashMap::new(),
            names: HashMap::new(),
            sketches,
        };
        for (number, entry, _) in files(old) {
            bases.paths.insert(&entry.path, number);
            bases.alike.entry(without_digits(&entry.path)).or_default().push(number);
            bases.names.entry(without_digits(name(&entry.path))).or_default().push(number);
        }
        bases
    }

    /// The file at this path, or at the most similar one.
    pub(super) fn by_path(&self, path: &[u8], content: &Content) -> Option<u32> {
        let nearest = |numbers: Option<&Vec<u32>>| {
            let sized = numbers?.iter().filter_map(|number| {
                let size = self.stored(*number)?;
                let (small, large) = (size.min(content.stored()), size.max(content.stored()));
                (large / SIZES <= small).then_some((large - small, *number))
            });
            sized.min().map(|(_, number)| number)
        };
        self.paths
            .get(path)
            .copied()
            .or_else(|| nearest(self.alike.get(&without_digits(path))))
            .or_else(|| nearest(self.names.get(&without_digits(name(path)))))
    }

    /// The file with the most similar content.
    pub(super) fn by_content(&self, sketch: &Sketch) -> Option<u32> {
        most_alike(&self.sketches, sketch)
    }

    fn stored(&self, number: u32) -> Option<u64> {
        match &self.old.entries.get(number as usize)?.kind {
            gse_protocol::index::Kind::File(content) => Some(content.stored()),
            _ => None,
        }
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// Each run of digits is one `#`.
fn without_digits(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        if !byte.is_ascii_digit() {
            out.push(*byte);
        } else if out.last() != Some(&b'#') {
            out.push(b'#');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_make_another_path() {
        for (one, two, same) in [
            ("lib/modules/6.1.0-50-amd64/a.ko", "lib/modules/6.1.0-9-amd64/a.ko", true),
            ("lib/libx.so.1.2", "lib/libx.so.1.30", true),
            ("lib/libx.so.1.2", "lib/libx.so.1", false),
            ("lib/a1", "lib/b1", false),
        ] {
            let equal = without_digits(one.as_bytes()) == without_digits(two.as_bytes());
            assert_eq!(equal, same, "{one} {two}");
        }
    }
}
