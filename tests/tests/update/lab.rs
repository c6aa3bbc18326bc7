//! What is published, and machines that install it.

use std::{
    fs::{self, File},
    num::NonZero,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use gse::{
    archive::{ArchiveOptions, Summary, archive},
    keys::{self, SecretKey},
    progress::Progress,
};
use gse_controller::install::{
    FileSource, FrameSources, InstallError, Limits, LocalTree, Patch, Plan, Report, Seed, install,
    make,
};
use gse_protocol::{Index, sign::Keys};
use gse_tests::tree::{describe, differences};

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

/// The same bytes as another compiler run would give them: moved a little, and with other addresses.
pub(crate) fn rebuilt(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = [b"moved by some bytes", bytes].concat();
    bytes.iter_mut().step_by(1000).for_each(|byte| *byte = byte.wrapping_add(1));
    bytes
}

/// What is published, and machines that install it.
pub(crate) struct Lab {
    directory: tempfile::TempDir,
    pub(crate) key: SecretKey,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        keys::generate(&key, None).unwrap();
        let key = SecretKey::load(&key, || unreachable!()).unwrap();
        fs::create_dir(directory.path().join("tree")).unwrap();
        Self { directory, key }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn publish(&self, version: &str) -> Summary {
        let options = ArchiveOptions {
            tree: &self.path("tree"),
            name: "lab",
            version,
            dist: &self.path("dist"),
            key: &self.key,
            older_keys: &[],
            level: 3,
            allow_downgrade: false,
            kernel: None,
            latest: true,
            created: 1_700_000_000,
            until: None,
            patches: 2,
            threads: NonZero::new(3).unwrap(),
        };
        archive(&options, &Progress::silent()).unwrap()
    }

    pub(crate) fn file(&self, version: &str, name: &str) -> PathBuf {
        self.path("dist/images").join(format!("lab-{version}")).join(name)
    }

    pub(crate) fn index(&self, version: &str) -> Index {
        let path = self.file(version, "index.cbor.zst");
        let signature = fs::read_to_string(path.with_extension("zst.minisig")).unwrap();
        let keys = Keys(vec![self.key.public().clone()]);
        Index::open(&fs::read(path).unwrap(), &signature, &keys).unwrap()
    }

    pub(crate) fn source(&self, version: &str, name: &str) -> FileSource {
        FileSource::new(File::open(self.file(version, name)).unwrap())
    }

    /// A machine that has a version.
    pub(crate) fn machine(&self, version: &str) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let index = self.index(version);
        let mut image = self.source(version, "system.tar.zst");
        let root = File::open(folder.path()).unwrap();
        install(&index, &mut image, root.as_fd(), &|_| {}, &Limits::default()).unwrap();
        Machine { folder, index }
    }
}

pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) index: Index,
}

impl Machine {
    /// Updates with the patches from its own version, and with the image if there is one.
    pub(crate) fn update(
        &self,
        lab: &Lab,
        to: &str,
        image: bool,
    ) -> Result<(Report, Tree), InstallError> {
        let mut image = image.then(|| lab.source(to, "system.tar.zst"));
        let image = image.as_mut().map(|image| image as _);
        let mut patches = self.patches(lab, to);
        self.update_from(lab, to, FrameSources { patch: Some(&mut patches), image }, &|_, _| {})
    }

    /// The patches from its own version.
    pub(crate) fn patches(&self, lab: &Lab, to: &str) -> FileSource {
        lab.source(to, &format!("from-{}.patch", self.index.version))
    }

    /// Updates as the patches' table says, from these sources.
    pub(crate) fn update_from(
        &self,
        lab: &Lab,
        to: &str,
        sources: FrameSources<'_>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(Report, Tree), InstallError> {
        let new = lab.index(to);
        let root = self.folder.path();
        let local = LocalTree::open(root, &root.join(".gse")).unwrap();
        let seeds = [Seed::new(&local, &self.index)];
        let file = new.patches.iter().find(|patch| patch.version == self.index.version).unwrap();
        let patch = Patch::open(file, &new, &seeds[0], &mut self.patches(lab, to))?;
        let plan = Plan::new(&new, &seeds, Some(&patch))?;
        let target = tempfile::tempdir().unwrap();
        let directory = File::open(target.path()).unwrap();
        let report = make(&plan, sources, directory.as_fd(), progress, &Limits::default())?;
        Ok((report, Tree(target)))
    }
}

pub(crate) struct Tree(pub(crate) tempfile::TempDir);

impl Tree {
    pub(crate) fn is(&self, wanted: &Path) {
        let (wanted, found) = (describe(wanted).unwrap(), describe(self.0.path()).unwrap());
        assert_eq!(differences(&wanted, &found), Vec::<String>::new());
    }
}

/// Two versions, and a machine that has the first: a new kernel, libraries, and files that stay or move.
pub(crate) fn upgrade() -> (Lab, Machine) {
    let lab = Lab::new();
    let large = noise(1, 7_000_000);
    lab.write("lib/modules/6.1.0-50/net/driver.ko", &noise(2, 300_000));
    lab.write("lib/libx.so.1.2", &noise(3, 400_000));
    lab.write("usr/large", &large);
    lab.write("usr/edited", &noise(4, 200_000));
    lab.write("usr/moved", &noise(5, 100_000));
    lab.write("usr/old-name", &noise(6, 120_000));
    lab.write("usr/gone", b"gone");
    for number in 0..50 {
        lab.write(&format!("usr/same/{number}"), &noise(100 + number, 30_000));
    }
    lab.publish("1");
    let machine = lab.machine("1");
    fs::remove_dir_all(lab.path("tree/lib")).unwrap();
    lab.write("lib/modules/6.1.0-56/net/driver.ko", &rebuilt(&noise(2, 300_000)));
    lab.write("lib/libx.so.1.30", &rebuilt(&noise(3, 400_000)));
    lab.write("usr/large", &rebuilt(&large));
    lab.write("usr/edited", &rebuilt(&noise(4, 200_000)));
    let tree = lab.path("tree/usr");
    fs::rename(tree.join("moved"), tree.join("elsewhere")).unwrap();
    fs::remove_file(tree.join("old-name")).unwrap();
    // Nothing but its content tells where it came from.
    lab.write("share/different", &rebuilt(&noise(6, 120_000)));
    lab.write("usr/new", b"new\n");
    fs::remove_file(tree.join("gone")).unwrap();
    (lab, machine)
}
