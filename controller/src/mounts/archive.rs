//! The content of a directory in memory, from a signed archive on BOOTFS: `bootetc` and `bootvar` of the first GSE.
//!
//! Who can write to BOOTFS could put anything there, so an archive counts only with a signature by a key that the
//! configuration trusts. It is made with
//! `tar --zstd -C / -cf etc.tar.zst etc` and `minisign -S -s gse.key -t "gse archive serial:1" -m etc.tar.zst`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::{
    config::Mounts,
    sign::{Keys, Kind, MAX_SIGNATURE, Signature},
};

use crate::{
    files,
    log::{Log, reason},
    mount::ARCHIVES,
};

/// The most that an archive may have, packed: it is held in memory while it is unpacked.
const MAX_ARCHIVE: usize = 64 << 20;

/// Reads the archives that `mounts` needs from BOOTFS, mounted at `boot`, and leaves those that are signed for
/// [`unpack`].
pub fn fetch(boot: &Path, mounts: &Mounts, keys: &Keys, log: &Log) {
    for name in mounts.tmpfs.iter().filter_map(|tmpfs| tmpfs.archive.as_ref()) {
        if let Err(e) = fetch_one(boot, name, keys) {
            log.warn(format_args!("{name} on BOOTFS is passed over: {}", reason(&e)));
        }
    }
}

fn fetch_one(boot: &Path, name: &str, keys: &Keys) -> Result<()> {
    let path = boot.join(name);
    let read = |path: &Path, most| {
        files::read_bounded(path, most).with_context(|| format!("reading {}", path.display()))
    };
    let signature = read(&boot.join(format!("{name}.minisig")), MAX_SIGNATURE)?;
    let bytes = read(&path, MAX_ARCHIVE)?;
    let signature: Signature = String::from_utf8_lossy(&signature).parse()?;
    signature.verify(Kind::Archive, &bytes, keys)?;
    fs::create_dir_all(ARCHIVES).with_context(|| format!("making {ARCHIVES}"))?;
    let kept = kept(name);
    files::write_private(&kept, &bytes).with_context(|| format!("writing {}", kept.display()))
}

fn kept(name: &str) -> PathBuf {
    Path::new(ARCHIVES).join(name.replace('/', "_"))
}

/// Unpacks a fetched archive, once. `stage` is the directory that stands for `path` of the system; the entries of the
/// archive have that path.
pub(super) fn unpack(name: &str, path: &str, stage: &Path) -> Result<()> {
    let kept = kept(name);
    let packed = fs::read(&kept)
        .with_context(|| format!("there is no {name} with a signature on BOOTFS"))?;
    fs::remove_file(&kept).with_context(|| format!("removing {}", kept.display()))?;
    let path = Path::new(path.trim_start_matches('/'));
    let depth = path.components().count();
    let above = stage.ancestors().nth(depth).unwrap_or(stage);
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed.as_slice())?);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    let mut found = false;
    for entry in archive.entries()? {
        let mut entry = entry.with_context(|| format!("reading {name}"))?;
        let own = entry.path()?.into_owned();
        let own = own.strip_prefix(".").unwrap_or(&own).to_owned();
        if !own.starts_with(path) {
            bail!("{name} is for {}, but has {}", path.display(), own.display());
        }
        let done =
            entry.unpack_in(above).with_context(|| format!("unpacking {}", own.display()))?;
        if !done {
            bail!("{name} has a path that leads out of it: {}", own.display());
        }
        found = true;
    }
    if !found {
        bail!("{name} is empty");
    }
    Ok(())
}
