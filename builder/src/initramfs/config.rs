//! The configuration that goes into the image: checked as machines will read it, and searched for secrets.

use std::{fs, io, path::Path};

use gse_protocol::{
    Serial,
    config::{
        Bundle,
        bundle::{File as BundleFile, Files, is_for_machines},
        drives::Filesystem,
    },
};

use super::{Error, tree::Node};
use crate::{
    config_d::{self, PLACES},
    publish,
    secrets::secret,
};

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
            None => config_d::find(None)
                .map_err(|_| Error::NoConfig { tried: PLACES.map(str::to_owned).to_vec() })?,
        };
        let mut files = publish::check(&path)?;
        let bundle = Bundle::from_files(Serial(0), 0, files.clone())
            .map_err(|e| publish::Error::Mistakes(vec![e]))?;
        if bundle.sources.keys.0.is_empty() {
            return Err(Error::NoKeys { path });
        }
        files.retain(|name, _| is_for_machines(name, &bundle.sources));
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

    /// Whether there is a password that opens a shell on some machine. Nobody gets at a shell without one.
    pub(super) fn opens_a_shell(&self) -> bool {
        self.bundle.boot.rescue.password.is_some()
    }

    /// Whether a server's certificate will have to be checked against this host's list.
    pub(super) fn needs_certificates(&self) -> bool {
        let sources = &self.bundle.sources;
        sources.tls_roots.is_none() && sources.servers.iter().any(|s| s.starts_with("https://"))
    }
}

/// Everything that makes an image this lab's, by paths in the image: `/config.d`, the time at which it was
/// made, certificates.
pub(super) fn nodes(config: &Config, time: u32) -> Result<Vec<(String, Node)>, Error> {
    let file = |(name, file): (&String, &BundleFile)| {
        let node = Node::File { mode: file.mode, bytes: file.bytes.clone() };
        (format!("config.d/{name}"), node)
    };
    let mut nodes: Vec<_> = config.files.iter().map(file).collect();
    nodes.push(("etc/gse/stamp".to_owned(), Node::file(format!("{time}\n").into_bytes())));
    if config.needs_certificates() {
        nodes.push((CERTIFICATES.to_owned(), Node::file(host_certificates()?)));
    }
    Ok(nodes)
}

/// Reads the host's list of certificates.
fn host_certificates() -> Result<Vec<u8>, Error> {
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
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
