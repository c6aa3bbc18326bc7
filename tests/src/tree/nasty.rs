//! A tree with one of everything that goes wrong.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr,
    mknodat, utimensat,
};

/// Makes a tree in the existing directory `root` that has one of everything that goes wrong: it needs
/// root, and a file system with extended attributes and ACLs (btrfs, ext4, xfs).
pub fn nasty_tree(root: &Path) -> anyhow::Result<()> {
    let maker = Maker { root };
    maker.files().context("making files")?;
    maker.names().context("making names")?;
    maker.links().context("making links")?;
    maker.nodes().context("making device nodes")?;
    maker.attributes().context("making attributes")?;
    maker.sparse().context("making sparse files")?;
    maker.owners().context("changing owners")?;
    // Last, as anything made in a directory changes its time.
    maker.times().context("changing times")
}

struct Maker<'a> {
    root: &'a Path,
}

impl Maker<'_> {
    fn path(&self, relative: impl AsRef<OsStr>) -> PathBuf {
        self.root.join(relative.as_ref())
    }

    fn file(&self, relative: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
        Ok(path)
    }

    fn mode(&self, relative: &str, mode: u32) -> anyhow::Result<()> {
        Ok(fs::set_permissions(self.path(relative), fs::Permissions::from_mode(mode))?)
    }

    /// Sizes around the units of a tar and of a frame; special modes.
    fn files(&self) -> anyhow::Result<()> {
        for size in [0, 1, 511, 512, 513, 4096, 65_536, (2 << 20) - 512, 2 << 20, (5 << 20) + 1] {
            self.file(&format!("sizes/{size}"), &noise(size))?;
        }
        self.file("sizes/zeros", &vec![0; 1 << 20])?;
        for (name, mode) in
            [("su", 0o4755), ("wall", 0o2755), ("both", 0o6711), ("none", 0), ("all", 0o1777)]
        {
            self.file(&format!("bin/{name}"), b"#!/bin/sh\n")?;
            self.mode(&format!("bin/{name}"), mode)?;
        }
        for (name, mode) in [("tmp", 0o1777), ("mail", 0o2775), ("secret", 0o700), ("closed", 0)] {
            fs::create_dir(self.path(name))?;
            self.mode(name, mode)?;
        }
        Ok(())
    }

    /// Names that no text has, and paths that fit no field of a tar.
    fn names(&self) -> anyhow::Result<()> {
        fs::create_dir(self.path("names"))?;
        let names: [&[u8]; 12] = [
            b"not utf-8 \xff\xfe",
            b"new\nline",
            b"tab\tand space ",
            b" ",
            b"-rf",
            b"*",
            b"\\backslash\\n",
            b"=%3D",
            "\u{e4}\u{f6}\u{fc} \u{1f600}".as_bytes(),
            b"\x01\x1b[31m",
            b"...",
            &[b'n'; 255],
        ];
        for name in names {
            let path = self.path("names").join(OsStr::from_bytes(name));
            fs::write(path, name)?;
        }
        for length in [97, 98, 99, 100, 101] {
            // With "./" before them, and a directory's slash after, around the 100 bytes of the field.
            self.file(&"f".repeat(length), b"x")?;
            fs::create_dir(self.path("d".repeat(length)))?;
        }
        let deep = [b'p'; 200].map(char::from).iter().collect::<String>();
        let mut path = PathBuf::from("deep");
        for _ in 0..9 {
            path.push(&deep);
        }
        fs::create_dir_all(self.path(&path))?;
        fs::write(self.path(path.join("file")), b"deep")?;
        fs::hard_link(self.path(path.join("file")), self.path("zz-name-of-the-deep-file"))?;
        Ok(())
    }

    fn links(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.path("links/later"))?;
        let long: OsString = ["../".repeat(150), "x".repeat(200)].concat().into();
        let targets: [(&str, &OsStr); 7] = [
            ("relative", OsStr::new("../sizes/1")),
            ("absolute", OsStr::new("/etc/passwd")),
            ("dangling", OsStr::new("nowhere")),
            ("self", OsStr::new("self")),
            ("up", OsStr::new("../../../../..")),
            ("bytes", OsStr::from_bytes(b"\xff\n ")),
            ("long", &long),
        ];
        for (name, target) in targets {
            std::os::unix::fs::symlink(target, self.path("links").join(name))?;
        }
        let first = self.file("links/first", &noise(3000))?;
        for name in ["links/later/second", "links/third", "a-name-that-sorts-before"] {
            fs::hard_link(&first, self.path(name))?;
        }
        Ok(())
    }

    fn nodes(&self) -> anyhow::Result<()> {
        fs::create_dir(self.path("dev"))?;
        let nodes = [
            ("null", FileType::CharacterDevice, 0o666, 1, 3),
            ("loop", FileType::BlockDevice, 0o660, 7, 0),
            ("large", FileType::CharacterDevice, 0o600, 4095, 1_048_575),
            ("pipe", FileType::Fifo, 0o622, 0, 0),
        ];
        for (name, kind, mode, major, minor) in nodes {
            let path = self.path("dev").join(name);
            mknodat(
                CWD,
                &path,
                kind,
                Mode::from_raw_mode(mode),
                rustix::fs::makedev(major, minor),
            )?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn attributes(&self) -> anyhow::Result<()> {
        let file = self.file("xattrs/file", b"attributes")?;
        let directory = self.path("xattrs");
        let binary: Vec<u8> = (0..=255).collect();
        for (path, name, value) in [
            (&file, c"user.text", b"value".as_slice()),
            (&file, c"user.empty", b""),
            (&file, c"user.lines", b"10 path=evil\n20 mtime=0\n"),
            (&file, c"user.binary", &binary),
            (&file, c"user.a=b%c", b"name with signs"),
            (&file, c"user.large", &noise(2000)),
            (&file, c"trusted.gse", b"root's"),
            (&directory, c"user.directory", b"value"),
            (&directory, c"trusted.overlay.opaque", b"y"),
        ] {
            set_xattr(path, name, value)?;
        }
        let link = self.path("xattrs/link");
        std::os::unix::fs::symlink("file", &link)?;
        set_xattr(&link, c"trusted.link", b"of a symbolic link")?;
        // struct vfs_cap_data of linux/capability.h, revision 2, effective: CAP_NET_RAW.
        let capability = [0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat();
        let ping = self.file("bin/ping", b"#!/bin/sh\n")?;
        set_xattr(&ping, c"security.capability", &capability)?;

        let acl = |user: u16, mask: u16| {
            const NOBODY: u32 = u32::MAX;
            let entries = [
                (0x01, 7, NOBODY),
                (0x02, user, 1000),
                (0x02, 4, 4_000_000_000),
                (0x04, 5, NOBODY),
                (0x08, 2, 100),
                (0x10, mask, NOBODY),
                (0x20, 1, NOBODY),
            ];
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for (tag, bits, id) in entries {
                bytes.extend_from_slice(&u16::to_le_bytes(tag));
                bytes.extend_from_slice(&u16::to_le_bytes(bits));
                bytes.extend_from_slice(&u32::to_le_bytes(id));
            }
            bytes
        };
        let file = self.file("acls/file", b"an ACL")?;
        set_xattr(&file, c"system.posix_acl_access", &acl(6, 4))?;
        let directory = self.path("acls");
        set_xattr(&directory, c"system.posix_acl_access", &acl(7, 7))?;
        set_xattr(&directory, c"system.posix_acl_default", &acl(5, 5))?;
        // What is made after the default ACL was set inherits it.
        self.file("acls/inherits", b"")?;
        Ok(())
    }

    fn sparse(&self) -> anyhow::Result<()> {
        fs::create_dir(self.path("sparse"))?;
        let many: Vec<_> = (1..40).map(|n| (n * (2 << 20), 4096)).collect();
        for (name, size, parts) in [
            ("hole", 4 << 20, vec![]),
            ("start", 4 << 20, vec![(3 << 20, 1 << 20)]),
            ("end", 4 << 20, vec![(0, 4096)]),
            ("uneven", (4 << 20) + 123, vec![(1 << 20, 5000), (4 << 20, 123)]),
            ("many", 100 << 20, many),
            ("over-8-gib", 10 << 30, vec![(9 << 30, 100)]),
            ("large-parts", 20 << 20, vec![(1 << 20, 5 << 20), (12 << 20, 3 << 20)]),
        ] {
            let file = File::create(self.path("sparse").join(name))?;
            file.set_len(size)?;
            for (offset, length) in parts {
                file.write_all_at(&noise(length), offset)?;
            }
            // Until then a file system may count or show as data what it has only planned.
            file.sync_all()?;
        }
        Ok(())
    }

    fn owners(&self) -> anyhow::Result<()> {
        fs::create_dir(self.path("owners"))?;
        for (name, uid, gid) in [
            ("user", 1000, 100),
            ("seven-digits", 0o777_7777, 0o777_7777),
            ("more", 0o1000_0000, 0o1000_0000),
            ("highest", u32::MAX - 1, u32::MAX - 1),
        ] {
            self.file(&format!("owners/{name}"), b"")?;
            self.own(&format!("owners/{name}"), uid, gid)?;
        }
        self.own("owners", 12, 34)?;
        self.own("links/dangling", 1000, 1000)
    }

    fn own(&self, relative: &str, uid: u32, gid: u32) -> anyhow::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(chownat(CWD, self.path(relative), Some(uid), Some(gid), flags)?)
    }

    fn times(&self) -> anyhow::Result<()> {
        fs::create_dir(self.path("times"))?;
        let times = [
            ("epoch", 0, 0),
            ("nanosecond", 1_700_000_000, 1),
            ("before-1970", -1, 500_000_000),
            ("1935", -1_100_000_000, 0),
            ("2106", 1 << 32, 7),
            ("2300", 10_413_792_000, 0),
            ("2300-and-a-bit", 10_413_792_000, 123_456_789),
        ];
        for (name, _, _) in times {
            self.file(&format!("times/{name}"), b"")?;
        }
        for (name, seconds, nanoseconds) in times {
            self.touch(&format!("times/{name}"), seconds, nanoseconds)?;
        }
        for (name, seconds) in [("times", 1_000_000_000), ("links/dangling", 1_234_567_890)] {
            self.touch(name, seconds, 42)?;
        }
        // The roots of extracted trees exist before, so their time has to be put back too.
        self.touch("", 1_500_000_000, 7)
    }

    fn touch(&self, relative: &str, seconds: i64, nanoseconds: i64) -> anyhow::Result<()> {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(CWD, self.path(relative), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn set_xattr(path: &Path, name: &CStr, value: &[u8]) -> anyhow::Result<()> {
    lsetxattr(path, name, value, XattrFlags::empty())
        .with_context(|| format!("setting {name:?} of {}", path.display()))
}

/// Bytes that do not compress, the same each time (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}
