//! Phases 1 and 3: the configuration, from the initramfs, from BOOTFS, from the server.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gse_protocol::{
    Serial,
    config::{
        Bundle, Introduction, Trust,
        bundle::{BundleError, File, Files, MAX_BUNDLE},
    },
    sign::{KeyId, MAX_SIGNATURE, Signature},
};

use crate::{fetch::FetchedConfig, files, log::Log};

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

/// Leaves what was configured for this start for the system that is started, in `dir`; what is applied to the system is
/// there already.
///
/// # Errors
/// Those of writing.
pub fn leave(bundle: &Bundle, dir: &Path) -> io::Result<()> {
    // What an earlier try left may have been another configuration.
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for (name, file) in &bundle.texts {
        let path = dir.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, &file.bytes)?;
    }
    Ok(())
}

/// What was left in `dir`.
///
/// # Errors
/// There is nothing: the controller did not start this system.
pub fn left(dir: &Path) -> Result<Bundle> {
    let mut files = Files::new();
    read_directory(dir, &mut PathBuf::new(), &mut files).with_context(|| {
        format!("reading {}: was this system started by the controller?", dir.display())
    })?;
    Bundle::from_files(Serial(0), 0, files).context("reading the configuration of this start")
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

/// Reads the copy that BOOTFS, mounted at `boot`, keeps. One that is damaged, or signed by a key that nothing
/// there introduces to the `embedded` configuration, is as good as none.
pub fn kept(boot: &Path, embedded: &Bundle, log: &Log) -> Option<Bundle> {
    let signature = read_text(&boot.join(KEPT_SIGNATURE))?;
    let tar = files::read_bounded(&boot.join(KEPT), MAX_BUNDLE).ok()?;
    let keys = embedded.sources.keys.clone();
    let trust = Trust { keys, serial: Serial(0), created: embedded.created };
    let mut introduce = |key| introduction(boot, key);
    let opened = signature.parse::<Signature>().map_err(BundleError::from).and_then(|parsed| {
        let (trust, _) = trust.extended_to(&parsed, &mut introduce)?;
        Bundle::open(&tar, &signature, &trust.keys)
    });
    match opened {
        Ok(bundle) => Some(bundle),
        Err(e) => {
            log.warn(format_args!("the configuration kept on BOOTFS is passed over: {e}"));
            None
        }
    }
}

fn introduction(boot: &Path, key: KeyId) -> Option<Introduction> {
    let path = introduction_path(boot, key);
    let signature = read_text(&signature_path(&path))?;
    Some(Introduction { key, tar: files::read_bounded(&path, MAX_BUNDLE).ok()?, signature })
}

/// As on a server, below the folder of GSE.
fn introduction_path(boot: &Path, key: KeyId) -> PathBuf {
    boot.join("gse").join(Introduction::path(key))
}

fn signature_path(tar: &Path) -> PathBuf {
    let mut path = tar.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}

/// Keeps a fetched configuration on BOOTFS, mounted writable at `boot`. The signature goes first: with
/// the old tar it does not fit, so that a cut between the two leaves no copy rather than a wrong one.
/// Before that comes what it takes to trust its key: the initramfs may never get to know that.
pub fn keep(boot: &Path, fetched: &FetchedConfig) -> Result<()> {
    let write = || -> io::Result<()> {
        fs::create_dir_all(boot.join("gse/keys"))?;
        for Introduction { key, tar, signature } in &fetched.introductions {
            let path = introduction_path(boot, *key);
            files::replace(&signature_path(&path), signature.as_bytes(), 0o600)?;
            files::replace(&path, tar, 0o600)?;
        }
        files::replace(&boot.join(KEPT_SIGNATURE), fetched.signature.as_bytes(), 0o600)?;
        files::replace(&boot.join(KEPT), &fetched.tar, 0o600)
    };
    write().with_context(|| format!("keeping the configuration on BOOTFS ({})", boot.display()))
}

/// Which of the two counts while no server has been asked: the one that was made later. A new
/// initramfs can so repair a machine whose kept configuration names a server that is gone.
pub fn newer(embedded: Bundle, kept: Option<Bundle>) -> Bundle {
    match kept {
        Some(kept) if kept.created >= embedded.created => kept,
        _ => embedded,
    }
}

fn read_text(path: &Path) -> Option<String> {
    let bytes = files::read_bounded(path, MAX_SIGNATURE).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gse_protocol::config::Boot;

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
    fn nothing_of_an_earlier_configuration_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let left_at = dir.path().join("config.d");
        let with = |name: &str, text: &str| {
            let file = |text: &str| File { mode: 0o644, bytes: text.as_bytes().to_vec() };
            let sources = ("sources.toml".to_owned(), file("servers = []\nkeys = []\n"));
            let files = Files::from([sources, (name.to_owned(), file(text))]);
            Bundle::from_files(Serial(1), 1, files).unwrap()
        };
        leave(&with("controller/boot.toml", "keep_logs = 9\n"), &left_at).unwrap();
        assert_eq!(left(&left_at).unwrap().boot.keep_logs, 9);
        leave(&with("controller/network.toml", ""), &left_at).unwrap();
        assert_eq!(left(&left_at).unwrap().boot, Boot::default());
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
        let embedded = bundle(1);
        assert!(kept(dir.path(), &embedded, &log).is_none());
        let (tar, signature) = (b"not a tar".to_vec(), "no signature".to_owned());
        let introductions = Vec::new();
        let bundle = embedded.clone();
        keep(dir.path(), &FetchedConfig { bundle, tar, signature, introductions }).unwrap();
        assert!(kept(dir.path(), &embedded, &log).is_none());
    }
}
