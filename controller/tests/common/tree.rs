//! Trees that are as nasty as real ones, and a comparison that sees everything.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use gse_protocol::index::Xattr;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat,
    lgetxattr, llistxattr, lsetxattr, makedev, mknodat, utimensat,
};

/// One thing in a tree.
pub struct Node {
    /// Relative to the root.
    pub path: Vec<u8>,
    pub meta: Metadata,
    pub xattrs: Vec<Xattr>,
}

/// All of a tree, the root first, in the order of names.
pub fn walk(root: &Path) -> Vec<Node> {
    let mut out = Vec::new();
    descend(root, &[], &mut out);
    out
}

/// `root` itself for the empty path, also if it is a file.
pub fn join(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

fn descend(root: &Path, path: &[u8], out: &mut Vec<Node>) {
    let at = &join(root, path);
    let meta = fs::symlink_metadata(at).unwrap();
    let is_dir = meta.is_dir();
    out.push(Node { path: path.to_vec(), meta, xattrs: xattrs(at) });
    if is_dir {
        let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let below = [path, if path.is_empty() { b"" } else { b"/" }, name.as_bytes()].concat();
            descend(root, &below, out);
        }
    }
}

fn xattrs(path: &Path) -> Vec<Xattr> {
    let mut names = vec![0; 1 << 16];
    let length = llistxattr(path, &mut names[..]).unwrap();
    let mut xattrs: Vec<Xattr> = names[..length]
        .split(|b| *b == 0)
        // XFS shows each ACL a second time, under a name of its own.
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_"))
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            Xattr { name: name.to_vec(), value }
        })
        .collect();
    xattrs.sort();
    xattrs
}

/// Lines that say all there is to say about a tree: what differs, differs in a line.
pub fn describe(root: &Path) -> Vec<String> {
    let nodes = walk(root);
    let mut first_name = std::collections::HashMap::new();
    nodes
        .iter()
        .filter(|n| n.path != b"lost+found")
        .map(|Node { path, meta, xattrs }| {
            let at = join(root, path);
            let is_dir = meta.is_dir();
            let content = if meta.is_file() {
                gse_protocol::Sha256::of(&fs::read(&at).unwrap()).to_string()
            } else if meta.is_symlink() {
                format!("{:?}", fs::read_link(&at).unwrap())
            } else {
                format!("{:x}", meta.rdev())
            };
            let name = first_name
                .entry((meta.dev(), meta.ino()))
                .or_insert_with(|| path.escape_ascii().to_string());
            format!(
                "{} ={} {:o} {}:{} {}.{:09} {} links:{} {content} {xattrs:?}",
                path.escape_ascii(),
                name,
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                // A directory's size and links are the filesystem's own affair.
                if is_dir { 0 } else { meta.len() },
                if is_dir { 0 } else { meta.nlink() },
            )
        })
        .collect()
}

/// Panics with the lines that differ.
pub fn assert_same(original: &Path, copy: &Path) {
    let (a, b) = (describe(original), describe(copy));
    let only = |x: &[String], y: &[String]| {
        x.iter().filter(|l| !y.contains(l)).take(5).cloned().collect::<Vec<_>>()
    };
    assert!(
        a == b,
        "only in the original: {:#?}\nonly in the copy: {:#?}",
        only(&a, &b),
        only(&b, &a)
    );
}

/// Bytes that do not compress, always the same for the same `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*, https://www.jstatsoft.org/article/view/v008i14
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        bytes.extend(x.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Makes a tree with everything that a root filesystem can have in it, and more.
pub fn make_nasty(root: &Path) {
    for dir in
        ["bin", "dev", "etc/deep/er/and/deeper", "home/user", "tmp", "var/empty", "usr/share/doc"]
    {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for number in 0..300 {
        let length = [0, 1, 511, 512, 513, 4096, 5000, 70_000][number % 8];
        fs::write(root.join(format!("usr/share/doc/file-{number}")), noise(number as u64, length))
            .unwrap();
    }
    fs::write(root.join("usr/large"), noise(1, 3_000_000)).unwrap();
    fs::write(root.join("usr/zeros"), vec![0; 2_000_000]).unwrap();
    fs::write(root.join("usr/after"), b"after").unwrap();

    for (name, mode) in [("su", 0o4755), ("wall", 0o2755), ("all", 0o7777), ("none", 0o000)] {
        let path = root.join("bin").join(name);
        fs::write(&path, name).unwrap();
        own(&path, 0, if mode == 0o2755 { 5 } else { 0 });
        chmod(&path, mode);
    }
    let ping = root.join("bin/ping");
    fs::write(&ping, "ping").unwrap();
    own(&ping, 7, 8);
    chmod(&ping, 0o755);
    // VFS_CAP_REVISION_2, cap_net_raw permitted and effective: include/uapi/linux/capability.h
    let capability: Vec<u8> =
        [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    xattr(&ping, "security.capability", &capability);

    let acl = root.join("home/user");
    own(&acl, 1000, 1000);
    chmod(&acl, 0o2770);
    for kind in ["system.posix_acl_access", "system.posix_acl_default"] {
        xattr(&acl, kind, &acl_with_user(1234));
    }
    let notes = root.join("home/user/notes");
    fs::write(&notes, "mine").unwrap();
    own(&notes, 1000, u32::MAX - 1);
    chmod(&notes, 0o640);
    xattr(&notes, "system.posix_acl_access", &acl_with_user(4_000_000_000));
    xattr(&notes, "user.colour", b"blue\0green");
    xattr(&notes, "user.empty", b"");
    xattr(&notes, "trusted.overlay.opaque", b"y");

    fs::hard_link(root.join("bin/su"), root.join("etc/deep/su-too")).unwrap();
    fs::hard_link(root.join("bin/su"), root.join("bin/su-again")).unwrap();
    fs::write(root.join("etc/empty"), "").unwrap();
    fs::hard_link(root.join("etc/empty"), root.join("etc/empty-too")).unwrap();
    fs::hard_link(root.join("usr/large"), root.join("etc/large")).unwrap();

    symlink("/etc/../../outside", root.join("etc/out")).unwrap();
    symlink("er", root.join("etc/deep/link")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), root.join("etc/raw")).unwrap();
    own(&root.join("etc/raw"), 33, 44);
    xattr(&root.join("etc/raw"), "trusted.link", b"of its own");

    fs::write(root.join(OsStr::from_bytes(b"etc/caf\xe9\n")), "latin1").unwrap();
    fs::create_dir(root.join(OsStr::from_bytes(b"etc/\xf0\x9f dir"))).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"etc/\xf0\x9f dir/x")), "x").unwrap();
    let long = "n".repeat(255);
    fs::write(root.join("etc").join(&long), "long name").unwrap();
    let deep = ["d".repeat(200).as_str(); 10].join("/");
    fs::create_dir_all(root.join(&deep)).unwrap();
    fs::write(root.join(&deep).join("bottom"), "deep").unwrap();

    node(root, "dev/null", FileType::CharacterDevice, 0o666, makedev(1, 3));
    node(root, "dev/sda", FileType::BlockDevice, 0o4660, makedev(8, 300));
    node(root, "dev/pipe", FileType::Fifo, 0o600, 0);
    own(&root.join("dev/sda"), 0, 6);
    fs::set_permissions(root.join("dev/sda"), fs::Permissions::from_mode(0o4660)).unwrap();
    xattr(&root.join("dev/null"), "trusted.device", b"yes");

    sparse(&root.join("var/hole-first"), 10 << 20, &[9 << 20]);
    sparse(&root.join("var/hole-last"), 10 << 20, &[0]);
    sparse(&root.join("var/hole-only"), 10 << 20, &[]);
    sparse(&root.join("var/holes"), (6 << 20) + 123, &[0, 1 << 20, 3 << 20, (6 << 20) - 4096]);

    chmod(&root.join("tmp"), 0o1777);
    chmod(&root.join("var/empty"), 0o500);
    chmod(root, 0o751);
    // Last, and the deepest first: each change in a directory moves its time.
    for (number, node) in walk(root).iter().enumerate().rev() {
        let seconds = [0, 1, -1, 1_700_000_000, i64::from(i32::MAX)][number % 5];
        let modified =
            Timespec { tv_sec: seconds, tv_nsec: (number as i64 * 7_654_321) % 1_000_000_000 };
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: modified,
        };
        let path = root.join(OsStr::from_bytes(&node.path));
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn own(path: &Path, uid: u32, gid: u32) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn node(root: &Path, path: &str, kind: FileType, mode: u32, device: u64) {
    mknodat(CWD, root.join(path), kind, Mode::from_raw_mode(mode), device).unwrap();
}

/// `u::rwx,u:UID:r-x,g::rwx,m::rwx,o::---` as include/uapi/linux/posix_acl_xattr.h has it.
fn acl_with_user(uid: u32) -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, permissions, id) in
        [(1, 6, none), (2, 5, uid), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]
    {
        acl.extend([tag, 0, permissions, 0]);
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn sparse(path: &Path, size: u64, data: &[u64]) {
    let mut file = File::create(path).unwrap();
    for offset in data {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        file.write_all(&noise(*offset, 4096.min((size - offset) as usize))).unwrap();
    }
    if let Some(last) = data.last() {
        file.write_all_at(b"end of data", *last).unwrap();
    }
    file.set_len(size).unwrap();
}
