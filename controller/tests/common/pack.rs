//! A small image packer: a tree becomes the files that a server has.

use std::{
    fs,
    io::{Cursor, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
};

use gse_controller::disk::records::{Published, Records};
use gse_protocol::{
    Index, Release, Serial, Sha256,
    config::Trust,
    delta,
    index::{self, Content, Entry, Extent, FORMAT, Frame, Kind, Time},
    release::{ImageFile, IndexDelta, IndexFile, Kernel},
    sign::{Keys, Kind as SignedKind},
};
use rustix::fs::{SeekFrom, major, minor, seek};

use super::tree::{self, Node};

/// A key pair for one test.
pub struct Signer(minisign::KeyPair);

impl Signer {
    pub fn new() -> Self {
        Self(minisign::KeyPair::generate_unencrypted_keypair().unwrap())
    }

    pub fn public(&self) -> String {
        self.0.pk.to_base64()
    }

    pub fn keys(&self) -> Keys {
        Keys(vec![self.public().parse().unwrap()])
    }

    /// Of a machine that has a configuration with this key and serial.
    pub fn trust(&self, serial: u64) -> Trust {
        Trust { keys: self.keys(), serial: Serial(serial), created: 0 }
    }

    pub fn sign(&self, kind: SignedKind, serial: u64, bytes: &[u8]) -> String {
        let comment = format!("gse {kind} serial:{serial}");
        minisign::sign(None, &self.0.sk, Cursor::new(bytes), Some(&comment), None)
            .unwrap()
            .into_string()
    }
}

/// An image in memory.
pub struct Image {
    pub index: Index,
    pub tar_zst: Vec<u8>,
}

/// What makes an index out of the one with this digest.
pub type Delta = (Sha256, Vec<u8>);

impl Image {
    /// What makes the index out of that of `older`.
    pub fn since(&self, older: &Self) -> Delta {
        let [newer, older] = [self, older].map(|image| image.index.to_cbor().unwrap());
        (Sha256::of(&older), delta::make(&newer, &older, 19).unwrap())
    }

    /// What a server has of the image: the release and its signature, `index`, `image`, and perhaps `delta`.
    pub fn publish(
        &self,
        signer: &Signer,
        delta: Option<Delta>,
        kernel: Option<Kernel>,
    ) -> Vec<(&'static str, Vec<u8>)> {
        let cbor = self.index.to_cbor().unwrap();
        let packed = index::pack(&cbor, 3).unwrap();
        let mut file = IndexFile::of("index".to_owned(), &packed, &cbor);
        let delta = delta.map(|(content, delta)| {
            file.since.push(IndexDelta::of(content, "delta".to_owned(), &delta));
            ("delta", delta)
        });
        let Index { name, version, serial, .. } = &self.index;
        let release = Release {
            format: 1,
            name: name.clone(),
            version: version.clone(),
            serial: *serial,
            created: 0,
            allow_downgrade: false,
            index: file,
            image: ImageFile {
                path: "image".to_owned(),
                size: self.tar_zst.len() as u64,
                installed_size: 1,
                entries: 1,
            },
            kernel,
        };
        let toml = release.to_toml().into_bytes();
        let signature = signer.sign(SignedKind::Release, serial.0, &toml).into_bytes();
        let files = [
            ("latest.toml", toml),
            ("latest.toml.minisig", signature),
            ("index", packed),
            ("image", self.tar_zst.clone()),
        ];
        files.into_iter().chain(delta).collect()
    }

    /// Writes what a slot keeps that has the image.
    pub fn keep(&self, signer: &Signer, records: &Records) {
        let files = self.publish(signer, None, None);
        records.set_published(Published::Release, &files[0].1).unwrap();
        records.set_published(Published::ReleaseSignature, &files[1].1).unwrap();
        records.set_published(Published::Index, &self.index.to_cbor().unwrap()).unwrap();
    }
}

/// Packs a tree into frames of `frame` bytes of tar.
pub fn pack(root: &Path, frame: usize) -> Image {
    let (entries, tar) = archive(root);
    let mut frames = Vec::new();
    let mut tar_zst = Vec::new();
    for chunk in tar.chunks(frame) {
        let packed = zstd::bulk::compress(chunk, 3).unwrap();
        frames.push(Frame {
            packed: packed.len() as u32,
            unpacked: chunk.len() as u32,
            sha256: Sha256::of(&packed),
        });
        tar_zst.extend(packed);
    }
    let index = Index {
        format: FORMAT,
        name: "test".into(),
        version: "1".into(),
        serial: Serial(1),
        entries,
        frames,
        patches: vec![],
    };
    index.check().unwrap();
    Image { index, tar_zst }
}

fn archive(root: &Path) -> (Vec<Entry>, Vec<u8>) {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    let mut entries: Vec<Entry> = Vec::new();
    let mut links = std::collections::HashMap::new();
    for Node { path, meta, xattrs, .. } in tree::walk(root) {
        let at = if path.is_empty() {
            root.to_owned()
        } else {
            root.join(std::ffi::OsStr::from_bytes(&path))
        };
        let number = entries.len() as u32;
        let file = meta.file_type();
        let linked = (meta.nlink() > 1 && file.is_file())
            .then(|| links.get(&(meta.dev(), meta.ino())).copied())
            .flatten();
        let name = if path.is_empty() {
            Path::new(".").to_owned()
        } else {
            Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned()
        };
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&meta);
        let kind = if let Some(target) = linked {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            let target: &Entry = &entries[target as usize];
            let target = Path::new(std::ffi::OsStr::from_bytes(&target.path)).to_owned();
            tar.append_link(&mut header, &name, target).unwrap();
            Kind::Hardlink(links[&(meta.dev(), meta.ino())])
        } else if file.is_file() {
            links.insert((meta.dev(), meta.ino()), number);
            let (extents, stored) = read_sparse(&at, meta.len());
            header.set_size(stored.len() as u64);
            tar.append_data(&mut header, &name, stored.as_slice()).unwrap();
            let offset = (tar.get_ref().len() - stored.len().next_multiple_of(512)) as u64;
            Kind::File(Content { size: meta.len(), offset, sha256: Sha256::of(&stored), extents })
        } else if file.is_symlink() {
            let target = fs::read_link(&at).unwrap();
            header.set_size(0);
            tar.append_link(&mut header, &name, &target).unwrap();
            Kind::Symlink(target.as_os_str().as_bytes().to_vec())
        } else if file.is_dir() {
            header.set_size(0);
            tar.append_data(&mut header, &name, std::io::empty()).unwrap();
            Kind::Directory
        } else {
            header.set_size(0);
            tar.append_data(&mut header, &name, std::io::empty()).unwrap();
            let (major, minor) = (major(meta.rdev()), minor(meta.rdev()));
            if file.is_char_device() {
                Kind::CharDevice(major, minor)
            } else if file.is_block_device() {
                Kind::BlockDevice(major, minor)
            } else {
                assert!(file.is_fifo(), "{at:?}");
                Kind::Fifo
            }
        };
        let is_link = matches!(kind, Kind::Hardlink(_));
        entries.push(Entry {
            path,
            kind,
            mode: if is_link { 0 } else { meta.mode() & 0o7777 },
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: Time { seconds: meta.mtime(), nanoseconds: meta.mtime_nsec() as u32 },
            xattrs: if is_link { vec![] } else { xattrs },
        });
    }
    (entries, tar.into_inner().unwrap())
}

/// The parts of a file that are not holes, and their bytes.
fn read_sparse(path: &Path, size: u64) -> (Option<Vec<Extent>>, Vec<u8>) {
    let mut file = fs::File::open(path).unwrap();
    let mut extents = Vec::new();
    let mut at = 0;
    while let Ok(offset) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(offset)).unwrap();
        extents.push(Extent { offset, length: at - offset });
    }
    let mut stored = Vec::new();
    if size == 0 || extents == [Extent { offset: 0, length: size }] {
        fs::File::open(path).unwrap().read_to_end(&mut stored).unwrap();
        return (None, stored);
    }
    for extent in &extents {
        seek(&file, SeekFrom::Start(extent.offset)).unwrap();
        (&mut file).take(extent.length).read_to_end(&mut stored).unwrap();
    }
    (Some(extents), stored)
}
