//! Root trees: one with every nasty thing in it, and a description to compare trees by.

mod nasty;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::FileExt as _,
    },
    path::Path,
};

use anyhow::Context as _;
use gse_protocol::{Sha256, digest::Hasher};
use rustix::{
    fs::{AtFlags, CWD, FileType, SeekFrom, Statx, StatxFlags, lgetxattr, llistxattr, seek, statx},
    io::Errno,
};

pub use self::nasty::nasty_tree;

/// A hole of at least this many bytes has to be a hole again; file systems differ in smaller ones.
const HOLE: u64 = 1 << 20;
/// The unit in which content is hashed: a block of nothing but zeros counts as if it were a hole.
const BLOCK: usize = 4096;

/// Every entry below `root`, by its path relative to it (the root's is empty), and all that is known
/// of it in a line of text: type, mode, owner, time, attributes, content, holes, and which other names
/// it has. Two trees are the same if and only if their descriptions are equal.
pub fn describe(root: &Path) -> anyhow::Result<BTreeMap<Vec<u8>, String>> {
    let mut lines = BTreeMap::new();
    let mut names: HashMap<(u32, u32, u64), Vec<Vec<u8>>> = HashMap::new();
    let mut waiting = vec![Vec::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(OsStr::from_bytes(&relative));
        let stat = statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
            .with_context(|| format!("looking at {}", path.display()))?;
        let line = describe_entry(&path, &stat)
            .with_context(|| format!("describing {}", path.display()))?;
        if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory {
            for child in fs::read_dir(&path)? {
                let name = child?.file_name().into_vec();
                waiting.push(match relative.as_slice() {
                    [] => name,
                    parent => [parent, b"/", &name].concat(),
                });
            }
        } else if stat.stx_nlink > 1 {
            let inode = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            names.entry(inode).or_default().push(relative.clone());
        }
        lines.insert(relative, line);
    }
    for mut group in names.into_values() {
        group.sort();
        let text: Vec<_> = group.iter().map(|n| String::from_utf8_lossy(n)).collect();
        for name in &group {
            if let Some(line) = lines.get_mut(name) {
                write!(line, " names={text:?}")?;
            }
        }
    }
    Ok(lines)
}

/// The first differences between two descriptions, a line each; empty if there are none.
pub fn differences(
    want: &BTreeMap<Vec<u8>, String>,
    got: &BTreeMap<Vec<u8>, String>,
) -> Vec<String> {
    const MOST: usize = 20;
    let mut paths: Vec<_> = want.keys().chain(got.keys()).collect();
    paths.sort();
    paths.dedup();
    let nothing = "(is not there)".to_owned();
    let mut lines = Vec::new();
    for path in paths {
        let (want, got) = (want.get(path).unwrap_or(&nothing), got.get(path).unwrap_or(&nothing));
        if want != got {
            let path = String::from_utf8_lossy(path);
            lines.push(format!("{path:?}\n  want {want}\n  got  {got}"));
        }
    }
    lines.truncate(MOST);
    lines
}

fn describe_entry(path: &Path, stat: &Statx) -> anyhow::Result<String> {
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let mut line = format!(
        "{kind:?} mode={:04o} owner={}:{} mtime={}.{:09}",
        stat.stx_mode & 0o7777,
        stat.stx_uid,
        stat.stx_gid,
        stat.stx_mtime.tv_sec,
        stat.stx_mtime.tv_nsec
    );
    match kind {
        FileType::Symlink => write!(line, " target={:?}", fs::read_link(path)?.as_os_str())?,
        FileType::CharacterDevice | FileType::BlockDevice => {
            write!(line, " device={}:{}", stat.stx_rdev_major, stat.stx_rdev_minor)?;
        }
        FileType::RegularFile => {
            let (digest, holes) = content(path, stat.stx_size)?;
            write!(line, " size={} content={digest} holes={holes}", stat.stx_size)?;
        }
        _ => {}
    }
    for (name, value) in xattrs(path)? {
        const SHORT: usize = 80;
        let value = match value.as_slice() {
            long if long.len() > SHORT => format!("{} bytes {}", long.len(), Sha256::of(long)),
            short => short.escape_ascii().to_string(),
        };
        write!(line, " {}={value:?}", name.escape_ascii())?;
    }
    Ok(line)
}

/// The digest of what is not zero, with where it is; and whether there are large holes.
fn content(path: &Path, size: u64) -> anyhow::Result<(String, bool)> {
    let file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 * BLOCK];
    let (mut position, mut holes) = (0, false);
    while position < size {
        let data = match seek(&file, SeekFrom::Data(position)) {
            Ok(data) => data,
            Err(Errno::NXIO) => size,
            Err(errno) => return Err(errno.into()),
        };
        holes |= data - position >= HOLE;
        if data >= size {
            break;
        }
        let end = seek(&file, SeekFrom::Hole(data))?;
        // Whole blocks, wherever a file system says that data begins.
        let mut at = data - data % BLOCK as u64;
        while at < end {
            let read = file.read_at(&mut buffer, at)?;
            anyhow::ensure!(read > 0, "the file became shorter");
            for block in buffer.get(..read).unwrap_or_default().chunks(BLOCK) {
                if block.iter().any(|b| *b != 0) {
                    hasher.update(&at.to_le_bytes());
                    hasher.update(block);
                }
                at += block.len() as u64;
            }
        }
        position = at.max(end);
    }
    Ok((hasher.finish().to_string(), holes))
}

fn xattrs(path: &Path) -> anyhow::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    names.truncate(length);
    let mut all = BTreeMap::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(path, name, &mut value)
            .with_context(|| format!("attribute {}", name.escape_ascii()))?;
        value.truncate(length);
        all.insert(name.to_vec(), value);
    }
    Ok(all)
}
