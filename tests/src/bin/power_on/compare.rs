//! An installed system beside the signed index that it was made from.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _},
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use gse_controller::{
    configure,
    disk::{
        mount::{Access, OpenSlot},
        records::{FOLDER, Published, Records},
        slots::Slot,
    },
    log::Log,
};
use gse_protocol::{
    Index, Sha256,
    config::Bundle,
    digest::Hasher,
    index::{Content, Entry, Kind},
};

const TOP: &str = "/run/top";

/// What differs, a sentence each. Files of the configuration are compared by the image's own copies.
pub(crate) fn system(slot: &Slot, config: &Bundle, log: &Log) -> Result<Vec<String>> {
    let open = OpenSlot::new(slot, Path::new(TOP), Access::ReadOnly, log)?;
    let root = open.root();
    let records = Records::open(open.top())?.context("the chosen slot has no records")?;
    let published = |which| -> Result<Vec<u8>> {
        records.published(which)?.with_context(|| format!("{which:?} is missing"))
    };
    let signature = published(Published::IndexSignature)?;
    let index = Index::open(
        &published(Published::Index)?,
        &String::from_utf8_lossy(&signature),
        &config.sources.keys,
    )?;
    let gse = open.top().join(FOLDER);
    let applied = configure::load(&gse)?;
    let mut wrong = Vec::new();
    for entry in &index.entries {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let kept = applied.file.get(&path).is_some_and(|file| file.pristine);
        let base = if kept { gse.join("pristine") } else { root.clone() };
        let at = base.join(std::ffi::OsStr::from_bytes(&entry.path));
        match difference(&at, &root, entry, &index) {
            Ok(None) => {}
            Ok(Some(why)) => wrong.push(format!("/{path} {why}")),
            Err(e) => wrong.push(format!("/{path}: {e:#}")),
        }
    }
    drop(records);
    open.close()?;
    Ok(wrong)
}

fn difference(
    at: &Path,
    root: &Path,
    entry: &Entry,
    index: &Index,
) -> Result<Option<&'static str>> {
    let meta = fs::symlink_metadata(at)?;
    let kind = meta.file_type();
    let right = match &entry.kind {
        Kind::Directory => kind.is_dir(),
        Kind::File(content) => kind.is_file() && self::content(at, content)? == content.sha256,
        Kind::Symlink(target) => {
            kind.is_symlink() && fs::read_link(at)?.as_os_str().as_bytes() == target
        }
        Kind::Hardlink(first) => {
            let first = index.entries.get(*first as usize).context("a link to nothing")?;
            let first = root.join(std::ffi::OsStr::from_bytes(&first.path));
            fs::symlink_metadata(first)?.ino() == meta.ino()
        }
        Kind::CharDevice(..) | Kind::BlockDevice(..) | Kind::Fifo => true,
    };
    if !right {
        return Ok(Some("is not what the index says"));
    }
    // The configuration makes directories to mount on, and files in others: their times change.
    let same_mode = matches!(entry.kind, Kind::Symlink(_) | Kind::Hardlink(_))
        || (meta.mode() & 0o7777, meta.uid(), meta.gid()) == (entry.mode, entry.uid, entry.gid);
    let same_time = !matches!(entry.kind, Kind::File(_)) || meta.mtime() == entry.mtime.seconds;
    Ok((!(same_mode && same_time)).then_some("has another owner, mode or time"))
}

/// The digest of what is stored of a file.
fn content(at: &Path, content: &Content) -> Result<Sha256> {
    let mut file = File::open(at)?;
    if file.metadata()?.len() != content.size {
        return Ok(Sha256::of(b""));
    }
    let Some(extents) = &content.extents else {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        return Ok(Sha256::of(&bytes));
    };
    let mut hasher = Hasher::default();
    for extent in extents {
        let mut bytes = vec![0; usize::try_from(extent.length)?];
        file.read_exact_at(&mut bytes, extent.offset)?;
        hasher.update(&bytes);
    }
    Ok(hasher.finish())
}
