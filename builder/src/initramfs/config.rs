//! The configuration that goes into the image: checked as machines will read it, and searched for secrets.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Serial,
    config::{
        self, Boot, Bundle, Drives, Machines, Mounts, Network, Sources,
        bundle::{File, Files, is_for_machines},
        drives::Filesystem,
        toml_text,
    },
};

use super::Error;

/// Where the configuration is when nothing says otherwise.
const PLACES: [&str; 2] = ["config.d", "/usr/lib64/gse/config.d"];

/// A configuration that machines can use.
#[derive(Debug)]
pub(super) struct Config {
    /// What they receive, by paths in `config.d`.
    pub(super) files: Files,
    pub(super) bundle: Bundle,
}

impl Config {
    /// Reads and checks a `config.d`.
    pub(super) fn load(asked: Option<&Path>) -> Result<Self, Error> {
        let path = match asked {
            Some(path) if path.is_dir() => path.to_owned(),
            Some(path) => return Err(Error::NoConfig { tried: vec![path.display().to_string()] }),
            None => PLACES
                .map(PathBuf::from)
                .into_iter()
                .find(|p| p.is_dir())
                .ok_or_else(|| Error::NoConfig { tried: PLACES.map(str::to_owned).to_vec() })?,
        };
        let mut files = Files::new();
        read_files(&path, "", &mut files)?;
        let errors = mistakes(&files);
        if !errors.is_empty() {
            return Err(Error::Config { path, errors });
        }
        let bundle = Bundle::from_files(Serial(0), 0, files.clone())
            .map_err(|e| Error::Config { path: path.clone(), errors: vec![e] })?;
        if bundle.sources.keys.0.is_empty() {
            return Err(Error::NoKeys { path });
        }
        files.retain(|name, _| is_for_machines(name, &bundle.sources));
        for (name, file) in &files {
            if let Some(what) = secret(&file.bytes) {
                return Err(Error::Secret { path: path.join(name), what });
            }
        }
        Ok(Self { files, bundle })
    }

    /// The filesystems that machines are to have, each once.
    pub(super) fn filesystems(&self) -> Vec<Filesystem> {
        let partitions = self.bundle.drives.disk.iter().flat_map(|d| &d.partition);
        let mut filesystems: Vec<_> = partitions.map(|p| p.filesystem).collect();
        filesystems.sort_by_key(ToString::to_string);
        filesystems.dedup();
        filesystems
    }

    /// Whether a server's certificate will have to be checked against this host's list.
    pub(super) fn needs_certificates(&self) -> bool {
        let sources = &self.bundle.sources;
        sources.tls_roots.is_none() && sources.servers.iter().any(|s| s.starts_with("https://"))
    }
}

/// Every regular file below `directory`, by its path from there.
fn read_files(directory: &Path, below: &str, files: &mut Files) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;

    let entries = fs::read_dir(directory).map_err(Error::io("reading", directory))?;
    for entry in entries {
        let path = entry.map_err(Error::io("reading", directory))?.path();
        let odd = |why| Error::OddFile { path: path.clone(), why };
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| odd("has a name that is not in UTF-8: rename it"))?;
        let name = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let link = fs::symlink_metadata(&path).map_err(Error::io("reading", &path))?;
        if link.is_dir() {
            read_files(&path, &name, files)?;
            continue;
        }
        let metadata = fs::metadata(&path).map_err(Error::io("following the link", &path))?;
        if !metadata.is_file() {
            return Err(odd("is neither a file nor a directory: take it out of the configuration"));
        }
        let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
        files.insert(name, File { mode: normal(metadata.permissions().mode()), bytes });
    }
    Ok(())
}

/// Permissions without what only a umask decided: programs stay programs, private files stay private.
fn normal(mode: u32) -> u32 {
    match (mode & 0o100 != 0, mode & 0o004 != 0) {
        (true, true) => 0o755,
        (true, false) => 0o700,
        (false, true) => 0o644,
        (false, false) => 0o600,
    }
}

/// Every mistake in every file that machines read, so that they can be mended at one go.
fn mistakes(files: &Files) -> Vec<config::Error> {
    type Check = fn(&str) -> Result<(), config::Error>;
    let checks: [(&str, Check); 6] = [
        ("sources.toml", |t| Sources::parse(t).map(drop)),
        ("controller/boot.toml", |t| Boot::parse(t).map(drop)),
        ("controller/network.toml", |t| Network::parse(t).map(drop)),
        ("controller/drives.toml", |t| Drives::parse(t).map(drop)),
        ("controller/mounts.toml", |t| Mounts::parse(t).map(drop)),
        ("controller/machines.toml", |t| Machines::parse(t).map(drop)),
    ];
    let mut errors = Vec::new();
    for (name, check) in checks {
        let Some(file) = files.get(name) else { continue };
        errors.extend(toml_text(name, &file.bytes).and_then(|text| check(&text)).err());
    }
    for name in files.keys().filter(|n| n.ends_with(".toml") && is_settings(n)) {
        if !checks.iter().any(|(known, _)| known == name) {
            let mut error = config::Error::new(name, "no such file is read from a configuration");
            let near = checks.map(|(known, _)| (strsim::damerau_levenshtein(known, name), known));
            error.suggestion =
                near.into_iter().filter(|(far, _)| *far < 6).min().map(|(_, n)| n.to_owned());
            errors.push(error);
        }
    }
    errors
}

/// Whether a file lies where only the controller's own settings do.
fn is_settings(name: &str) -> bool {
    name.strip_prefix("controller/").is_some_and(|n| !n.contains('/'))
}

/// What a file looks like, if that is something which must stay secret.
pub(super) fn secret(bytes: &[u8]) -> Option<&'static str> {
    let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    // A minisign key is base64 of "Ed", the key derivation ("Sc", or two zeros for none) and "B2".
    if has("RWRTY0Iy") || has("RWQAAEIy") {
        return Some("a minisign secret key");
    }
    let private = bytes.split(|b| *b == b'\n').any(|line| {
        let line = String::from_utf8_lossy(line);
        line.contains("-----BEGIN ") && line.contains("PRIVATE KEY")
    });
    if private {
        return Some("a private key");
    }
    (has("PuTTY-User-Key-File-") || has("AGE-SECRET-KEY-1")).then_some("a private key")
}

/// Reads the host's list of certificates.
pub(super) fn host_certificates() -> Result<Vec<u8>, Error> {
    let path = Path::new("/").join(CERTIFICATES);
    let bytes = fs::read(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NoCertificates { path: path.clone() },
        _ => Error::io("reading", &path)(e),
    })?;
    match secret(&bytes) {
        Some(what) => Err(Error::Secret { path, what }),
        None => Ok(bytes),
    }
}

/// Where the image and the host have the certificates of HTTPS servers.
pub(super) const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_known_by_their_look() {
        let cases: [(&[u8], bool); 9] = [
            (b"-----BEGIN PRIVATE KEY-----\nMIG\n", true),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", true),
            (b"text before\n  -----BEGIN RSA PRIVATE KEY-----", true),
            (b"-----BEGIN PGP PRIVATE KEY BLOCK-----", true),
            (b"untrusted comment: x\nRWRTY0IyAAAA\n", true),
            (b"key = \"RWQAAEIyAAAA\"", true),
            (b"-----BEGIN CERTIFICATE-----\nMIG\n", false),
            (
                b"untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
                false,
            ),
            (b"# a PRIVATE KEY belongs elsewhere", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(secret(bytes).is_some(), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn permissions_do_not_depend_on_the_umask() {
        for (mode, expected) in
            [(0o100_664, 0o644), (0o100_775, 0o755), (0o100_600, 0o600), (0o100_750, 0o700)]
        {
            assert_eq!(normal(mode), expected);
        }
    }
}
