//! The servers that worked last, kept on BOOTFS: what a machine falls back to when its configuration sends it to one
//! that is not there.
//!
//! The file is not signed, and need not be: like `gse.server=`, it names servers, but no key.

use std::{fs, io, path::Path};

use gse_protocol::config::{Sources, sources::server_url};

use crate::files;

/// Below BOOTFS: a URL a line, and then the PEM certificates by which they were checked, if any.
const FILE: &str = "gse/servers";
const MAX: usize = 1 << 20;
const PEM: &str = "-----BEGIN";

/// Servers of one configuration, of which one gave a release that could be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastServers {
    /// Base URLs, each with a `/` at its end.
    pub servers: Vec<String>,
    /// The `tls_roots` of that configuration.
    pub tls_roots: Option<Vec<u8>>,
}

impl LastServers {
    /// Those of a configuration.
    pub fn of(sources: &Sources, tls_roots: Option<&[u8]>) -> Self {
        Self { servers: sources.servers.clone(), tls_roots: tls_roots.map(<[u8]>::to_vec) }
    }

    /// Reads what BOOTFS, mounted at `boot`, keeps. Lines that are no URLs are passed over.
    pub fn load(boot: &Path) -> Option<Self> {
        let text = String::from_utf8(files::read_bounded(&boot.join(FILE), MAX).ok()?).ok()?;
        let (lines, roots) = text.split_at(text.find(PEM).unwrap_or(text.len()));
        let servers: Vec<_> =
            lines.lines().filter_map(|line| server_url(line.to_owned()).ok()).collect();
        let tls_roots = (!roots.is_empty()).then(|| roots.as_bytes().to_vec());
        (!servers.is_empty()).then_some(Self { servers, tls_roots })
    }

    /// Keeps them on BOOTFS, mounted writable at `boot`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep(&self, boot: &Path) -> io::Result<()> {
        let mut text = self.servers.join("\n").into_bytes();
        text.push(b'\n');
        let roots = self.tls_roots.as_deref().unwrap_or_default();
        // What stands before the first certificate in a PEM file is for people.
        let begin = roots.windows(PEM.len()).position(|window| window == PEM.as_bytes());
        text.extend(begin.and_then(|begin| roots.get(begin..)).unwrap_or_default());
        fs::create_dir_all(boot.join("gse"))?;
        files::replace(&boot.join(FILE), &text, 0o600)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_back_with_what_they_are_checked_by() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LastServers::load(dir.path()), None);
        let roots = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for tls_roots in [None, Some(roots.as_bytes().to_vec())] {
            let servers = vec!["https://a/".to_owned(), "http://b:81/x/".to_owned()];
            let last = LastServers { servers, tls_roots };
            last.keep(dir.path()).unwrap();
            assert_eq!(LastServers::load(dir.path()), Some(last));
        }
    }

    #[test]
    fn what_is_no_server_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("gse")).unwrap();
        for (text, expected) in
            [("", None), ("ftp://x/\n\n", None), ("rubbish\nhttp://a\n", Some("http://a/"))]
        {
            fs::write(dir.path().join(FILE), text).unwrap();
            let found = LastServers::load(dir.path()).map(|last| last.servers.concat());
            assert_eq!(found.as_deref(), expected);
        }
    }
}
