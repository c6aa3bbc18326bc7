//! Phases 1 and 3: the configuration, from the initramfs, from BOOTFS, from the server.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gse_protocol::{
    Serial,
    config::{
        Bundle,
        bundle::{File, Files, MAX_BUNDLE},
    },
    sign::{Keys, MAX_SIGNATURE},
};

use crate::{files, log::Log};

/// Where BOOTFS keeps the configuration.
const KEPT: &str = "gse/config.tar";
const KEPT_SIGNATURE: &str = "gse/config.tar.minisig";

/// Reads the `config.d` that the initramfs carries. `built` is when that was made, in seconds since 1970.
pub fn embedded(dir: &Path, built: u64) -> Result<Bundle> {
    let mut files = Files::new();
    read_directory(dir, &mut PathBuf::new(), &mut files)
        .with_context(|| format!("reading {} of this initramfs", dir.display()))?;
    Bundle::from_files(Serial(0), built, files).context(
        "the configuration in this initramfs; mend config.d and build the controller again",
    )
}

fn read_directory(base: &Path, below: &mut PathBuf, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(base.join(&below))? {
        let entry = entry?;
        below.push(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_directory(base, below, files)?;
        } else {
            use std::os::unix::fs::PermissionsExt as _;
            let bytes = fs::read(entry.path())?;
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            files.insert(below.to_string_lossy().into_owned(), File { mode, bytes });
        }
        below.pop();
    }
    Ok(())
}

/// Reads the copy that BOOTFS, mounted at `boot`, keeps. One that is damaged, or signed by a key that is
/// no longer trusted, is as good as none.
pub fn kept(boot: &Path, keys: &Keys, log: &Log) -> Option<Bundle> {
    let tar = files::read_bounded(&boot.join(KEPT), MAX_BUNDLE).ok()?;
    let signature = files::read_bounded(&boot.join(KEPT_SIGNATURE), MAX_SIGNATURE).ok()?;
    match Bundle::open(&tar, &String::from_utf8_lossy(&signature), keys) {
        Ok(bundle) => Some(bundle),
        Err(e) => {
            log.warn(format_args!("the configuration kept on BOOTFS is passed over: {e}"));
            None
        }
    }
}

/// Keeps a fetched configuration on BOOTFS, mounted writable at `boot`. The signature goes first: with
/// the old tar it does not fit, so that a cut between the two leaves no copy rather than a wrong one.
pub fn keep(boot: &Path, tar: &[u8], signature: &str) -> Result<()> {
    let doing = || format!("keeping the configuration on BOOTFS ({})", boot.display());
    fs::create_dir_all(boot.join("gse")).with_context(doing)?;
    files::replace(&boot.join(KEPT_SIGNATURE), signature.as_bytes(), 0o600).with_context(doing)?;
    files::replace(&boot.join(KEPT), tar, 0o600).with_context(doing)
}

/// Which of the two counts while no server has been asked: the one that was made later. A new
/// initramfs can so repair a machine whose kept configuration names a server that is gone.
pub fn newer(embedded: Bundle, kept: Option<Bundle>) -> Bundle {
    match kept {
        Some(kept) if kept.created >= embedded.created => kept,
        _ => embedded,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bundle(created: u64) -> Bundle {
        let sources = File { mode: 0o644, bytes: b"servers = []\nkeys = []\n".to_vec() };
        let files = Files::from([("sources.toml".to_owned(), sources)]);
        Bundle::from_files(Serial(created), created, files).unwrap()
    }

    #[test]
    fn the_configuration_that_was_made_later_counts() {
        for (embedded, kept, expected) in
            [(5, None, 5), (5, Some(4), 5), (5, Some(5), 5), (5, Some(6), 6)]
        {
            assert_eq!(newer(bundle(embedded), kept.map(bundle)).created, expected);
        }
    }

    #[test]
    fn the_embedded_configuration_is_read_with_its_folders() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("controller/system/files/etc")).unwrap();
        fs::write(dir.path().join("sources.toml"), "servers = [\"http://a\"]\nkeys = []\n")
            .unwrap();
        fs::write(dir.path().join("controller/system/files/etc/motd"), "hi").unwrap();
        let bundle = embedded(dir.path(), 7).unwrap();
        assert_eq!(bundle.sources.servers, ["http://a/"]);
        assert_eq!(bundle.system.keys().collect::<Vec<_>>(), ["files/etc/motd"]);

        fs::write(dir.path().join("sources.toml"), "servrs = []\n").unwrap();
        let error = format!("{:#}", embedded(dir.path(), 7).unwrap_err());
        assert!(error.contains("sources.toml:1") && error.contains("`servers`"), "{error}");
    }

    #[test]
    fn a_damaged_kept_copy_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::console();
        assert!(kept(dir.path(), &Keys::default(), &log).is_none());
        keep(dir.path(), b"not a tar", "no signature").unwrap();
        assert!(kept(dir.path(), &Keys::default(), &log).is_none());
    }
}
