//! What is made, and where the content of each file comes from. Pure.

use std::{fmt, num::NonZero};

use gse_protocol::{
    Index,
    index::{Content, Entry, Kind},
};
use serde::Serialize;

use super::{InstallError, Patch, Seed, error::name, parts::Wanted, seeds::Known};

/// The files whose content comes from one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Share {
    /// By their position in the index, in its order. All have stored bytes.
    pub(super) files: Vec<u32>,
    /// Their stored bytes.
    pub(super) bytes: u64,
}

impl Share {
    fn add(&mut self, number: u32, content: &Content) {
        self.files.push(number);
        self.bytes = self.bytes.saturating_add(content.stored());
    }
}

/// What is to be made of an index, out of which sources. Nothing has been read or fetched for it.
pub struct Plan<'i> {
    pub(super) index: &'i Index,
    pub(super) known: Known<'i>,
    pub(super) patch: Option<&'i Patch<'i>>,
    /// Directories but the root, parents before what is in them.
    pub(super) directories: Vec<u32>,
    /// Files that are copied from local trees.
    pub(super) local: Share,
    /// Files that are made from files of a local tree, with a patch.
    pub(super) patched: Share,
    /// Files that are taken out of the image's frames.
    pub(super) frames: Share,
    /// Everything else but hard links: files without stored bytes, symbolic links, devices, pipes.
    pub(super) nodes: Vec<u32>,
    pub(super) hardlinks: Vec<u32>,
}

/// What one source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amount {
    /// How many files.
    pub files: usize,
    /// Their bytes, without holes.
    pub bytes: u64,
    /// How many bytes are fetched for them.
    pub fetched: u64,
}

/// What each source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Costs {
    /// The same content in a local tree.
    pub local: Amount,
    /// Binary patches.
    pub patches: Amount,
    /// The image.
    pub image: Amount,
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, patches, image } = self;
        let fetched = patches.fetched + image.fetched;
        write!(f, "{} to fetch", Mib(fetched))?;
        for (amount, whence) in
            [(local, "on this machine"), (patches, "by patches"), (image, "out of the image")]
        {
            if amount.files > 0 {
                write!(f, "; {} files, {}, {whence}", amount.files, Mib(amount.bytes))?;
            }
        }
        Ok(())
    }
}

/// Bytes, for people.
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(10).div_ceil(1 << 20);
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

impl<'i> Plan<'i> {
    /// Each file's content comes from the first of these that has it: one of `seeds`, `patch`, the image.
    ///
    /// # Errors
    /// The index holds what cannot be made.
    pub fn new(
        index: &'i Index,
        seeds: &'i [Seed<'i>],
        patch: Option<&'i Patch<'i>>,
    ) -> Result<Self, InstallError> {
        let mut plan = Self {
            index,
            known: Known::new(seeds),
            patch,
            directories: Vec::new(),
            local: Share::default(),
            patched: Share::default(),
            frames: Share::default(),
            nodes: Vec::new(),
            hardlinks: Vec::new(),
        };
        for (number, entry) in (0..).zip(&index.entries) {
            // chown takes this number for "leave it".
            if entry.uid == u32::MAX || entry.gid == u32::MAX {
                let path = name(&entry.path);
                return Err(InstallError::Owner { path, uid: entry.uid, gid: entry.gid });
            }
            match &entry.kind {
                Kind::Directory if number == 0 => {}
                Kind::Directory => plan.directories.push(number),
                Kind::Hardlink(_) => plan.hardlinks.push(number),
                Kind::File(content) if content.stored() > 0 => {
                    let share = if !plan.known.same(entry, content).is_empty() {
                        &mut plan.local
                    } else if patch.is_some_and(|patch| patch.makes(number)) {
                        &mut plan.patched
                    } else {
                        &mut plan.frames
                    };
                    share.add(number, content);
                }
                _ => plan.nodes.push(number),
            }
        }
        Ok(plan)
    }

    /// What each source gives, if all of it is as it should be.
    pub fn costs(&self) -> Costs {
        let amount = |share: &Share, fetched| Amount {
            files: share.files.len(),
            bytes: share.bytes,
            fetched,
        };
        let patched = self.of_patch().map_or(0, |wanted| wanted.packed());
        Costs {
            local: amount(&self.local, 0),
            patches: amount(&self.patched, patched),
            image: amount(&self.frames, self.of_image(&self.frames.files).packed()),
        }
    }

    /// What is read of the patch file.
    pub(super) fn of_patch(&self) -> Option<Wanted<'_>> {
        let patch = self.patch.filter(|_| !self.patched.files.is_empty())?;
        Some(Wanted::patched(self.index, patch, &self.patched.files))
    }

    /// What is read of the image for these files, which are in the order of the index.
    pub(super) fn of_image<'f>(&'f self, files: &'f [u32]) -> Wanted<'f> {
        if self.local.files.is_empty() && self.patched.files.is_empty() {
            Wanted::whole(self.index, files)
        } else {
            Wanted::only(self.index, files)
        }
    }

    pub(super) fn entry(&self, number: u32) -> Option<&'i Entry> {
        self.index.entries.get(number as usize)
    }

    /// The stored bytes of these files.
    pub(super) fn stored_in(&self, files: &[u32]) -> u64 {
        files.iter().filter_map(|n| file(self.index, *n)).map(|(_, c)| c.stored()).sum()
    }

    /// Bytes of all files, without holes.
    pub(super) fn stored(&self) -> u64 {
        self.local.bytes.saturating_add(self.patched.bytes).saturating_add(self.frames.bytes)
    }
}

/// An entry and its content, if it is a regular file.
pub(super) fn file(index: &Index, number: u32) -> Option<(&Entry, &Content)> {
    let entry = index.entries.get(number as usize)?;
    match &entry.kind {
        Kind::File(content) => Some((entry, content)),
        _ => None,
    }
}

/// What an installation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that frames in memory may take. One thread works whatever the limit.
    pub memory: u64,
    /// How many cores to keep busy.
    pub cores: NonZero<usize>,
}

impl Default for Limits {
    /// 36 MiB, which leaves room for a large index and the buffers of those who copy below 64 MiB in all, and the cores
    /// that there are.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        Self { memory: 36 << 20, cores }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use gse_protocol::{
        Serial, Sha256,
        index::{Extent, FORMAT, Frame, Time},
    };

    use super::{super::LocalTree, *};

    fn entry(path: &str, kind: Kind, gid: u32) -> Entry {
        let path = path.as_bytes().to_vec();
        Entry { path, kind, mode: 0o644, uid: 0, gid, mtime: Time::default(), xattrs: vec![] }
    }

    fn file(size: u64, offset: u64, extents: Option<Vec<Extent>>) -> Kind {
        Kind::File(Content { size, offset, sha256: Sha256([0; 32]), extents })
    }

    fn index(entries: Vec<Entry>) -> Index {
        let index = Index {
            format: FORMAT,
            name: "t".into(),
            version: "1".into(),
            serial: Serial(1),
            entries,
            frames: vec![Frame { packed: 1, unpacked: 1000, sha256: Sha256([0; 32]) }],
            patches: vec![],
        };
        index.check().unwrap();
        index
    }

    #[test]
    fn each_source_has_its_files_and_their_bytes() {
        let holes = Some(vec![Extent { offset: 500, length: 20 }]);
        let index = index(vec![
            entry("", Kind::Directory, 0),
            entry("a", file(100, 0, None), 0),
            entry("b", file(1 << 30, 200, holes), 0),
            entry("empty", file(0, 0, None), 0),
            entry("hole", file(1 << 30, 0, Some(vec![])), 0),
            entry("again", Kind::Hardlink(1), 0),
        ]);
        let share = Share { files: vec![1, 2], bytes: 120 };
        let folder = tempfile::tempdir().unwrap();
        let tree = LocalTree::open(folder.path(), folder.path()).unwrap();
        let seeds = [Seed::new(&tree, &index)];
        let local = Plan::new(&index, &seeds, None).unwrap();
        assert_eq!((&local.local, &local.frames), (&share, &Share::default()));
        let frames = Plan::new(&index, &[], None).unwrap();
        assert_eq!((&frames.local, &frames.frames), (&Share::default(), &share));
        for plan in [local, frames] {
            assert_eq!((plan.nodes.as_slice(), plan.hardlinks.as_slice()), (&[3, 4][..], &[5][..]));
            assert_eq!(plan.stored(), 120);
        }
    }

    #[test]
    fn an_owner_that_chown_would_leave_alone_is_refused() {
        let index =
            index(vec![entry("", Kind::Directory, 0), entry("a", file(1, 0, None), u32::MAX)]);
        let refused = Plan::new(&index, &[], None).map(drop);
        assert!(matches!(refused, Err(InstallError::Owner { .. })));
    }
}
