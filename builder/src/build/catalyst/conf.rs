//! `catalyst.conf`, as catalyst 4 reads it: TOML with these keys and no others
//! (`valid_config_file_values` in <https://gitweb.gentoo.org/proj/catalyst.git/tree/catalyst/defaults.py>).

use std::path::{Path, PathBuf};

use gse_protocol::config::{self, Error as Mistake};
use serde::{Deserialize, Serialize};

/// The file, in `config.d`.
pub const FILE: &str = "system/catalyst/catalyst.conf";

/// Digests that a product is checked by; catalyst names them as Python's hashlib does.
const DIGESTS: [&str; 2] = ["blake2b", "sha512"];

/// What the build itself needs to know is named; the rest is handed on as it is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Conf {
    /// Hashes in `.DIGESTS`.
    pub digests: Vec<String>,
    /// Where catalyst works, and leaves snapshots and products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storedir: Option<PathBuf>,
    /// The shell script that sets the environment of stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envscript: Option<PathBuf>,
    /// What the snapshot is called after.
    #[serde(rename = "repo_name", skip_serializing_if = "Option::is_none")]
    pub repo_name: Option<String>,
    /// `linux` or `bsd`.
    #[serde(rename = "digest_format", skip_serializing_if = "Option::is_none")]
    pub digest_format: Option<String>,
    /// Always written: catalyst adds to it, and stops if there is none.
    pub options: Vec<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binhost: Option<String>,
    #[serde(rename = "compression_mode", skip_serializing_if = "Option::is_none")]
    compression_mode: Option<String>,
    #[serde(rename = "distcc_hosts", skip_serializing_if = "Option::is_none")]
    distcc_hosts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distdir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobserver_fifo: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_average: Option<f64>,
    #[serde(rename = "port_logdir", skip_serializing_if = "Option::is_none")]
    port_logdir: Option<PathBuf>,
    #[serde(rename = "repo_basedir", skip_serializing_if = "Option::is_none")]
    repo_basedir: Option<PathBuf>,
    #[serde(rename = "repo_openpgp_key_path", skip_serializing_if = "Option::is_none")]
    repo_openpgp_key_path: Option<PathBuf>,
    #[serde(rename = "repos_storedir", skip_serializing_if = "Option::is_none")]
    repos_storedir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sharedir: Option<PathBuf>,
    #[serde(rename = "target_distdir", skip_serializing_if = "Option::is_none")]
    target_distdir: Option<PathBuf>,
    #[serde(rename = "target_logdir", skip_serializing_if = "Option::is_none")]
    target_logdir: Option<PathBuf>,
    #[serde(rename = "target_pkgdir", skip_serializing_if = "Option::is_none")]
    target_pkgdir: Option<PathBuf>,
    #[serde(rename = "var_tmpfs_portage", skip_serializing_if = "Option::is_none")]
    var_tmpfs_portage: Option<u32>,
}

/// One of `options`, as `etc/catalyst.conf` of catalyst 4 describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Switch {
    Autoresume,
    Bindist,
    Ccache,
    Distcc,
    Icecream,
    Keepwork,
    Kerncache,
    Pkgcache,
    Seedcache,
    StickyConfig,
}

impl Conf {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let mut conf: Self = config::parse(FILE, text)?;
        if conf.digests.is_empty() {
            conf.digests = DIGESTS.map(str::to_owned).to_vec();
        }
        let wrong =
            |key: &str, message: String| Err(Mistake::new(FILE, message).in_line_of(text, key));
        if let Some(missing) = DIGESTS.iter().find(|d| !conf.digests.iter().any(|has| has == *d)) {
            let message = format!(
                "digests has no {missing:?}: a product is checked by {} before it is unpacked",
                DIGESTS.join(" and ")
            );
            return wrong("digests", message);
        }
        if conf.digest_format.as_deref().is_some_and(|format| format != "linux") {
            let message = "digest_format has to be \"linux\": a product is checked by its digests";
            return wrong("digest_format", message.to_owned());
        }
        for (key, path) in [("storedir", &conf.storedir), ("envscript", &conf.envscript)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return wrong(key, format!("{key} has to be an absolute path"));
            }
        }
        if let Some(name) = &conf.repo_name
            && (name.is_empty() || name.contains('/'))
        {
            return wrong("repo_name", format!("{name:?} is no name of a repository"));
        }
        Ok(conf)
    }

    /// With what a build decides where the file says nothing: catalyst works in `store`, and has `envscript`.
    ///
    /// It always resumes by itself, so that what is killed is gone on with.
    pub fn filled(mut self, store: &Path, envscript: Option<&Path>) -> Self {
        self.storedir.get_or_insert_with(|| store.to_owned());
        if self.envscript.is_none() {
            self.envscript = envscript.map(Path::to_owned);
        }
        if !self.options.contains(&Switch::Autoresume) {
            self.options.push(Switch::Autoresume);
        }
        self
    }

    /// As catalyst reads it.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `etc/catalyst.conf` of catalyst 4, without its comments, and each of the other keys once.
    const FULL: &str = r#"
digests = ["blake2b", "sha512"]
envscript = "/etc/catalyst/catalystrc"
options = ["autoresume", "bindist", "kerncache", "pkgcache", "seedcache", "sticky-config"]
port_logdir = "/var/tmp/catalyst/logs"
var_tmpfs_portage = 16
jobs = 4
load-average = 4.0
jobserver-fifo = "/dev/steve"
binhost = "https://gentoo.osuosl.org/releases/"
compression_mode = "pixz"
digest_format = "linux"
distcc_hosts = "127.0.0.1"
distdir = "/var/cache/distfiles"
repo_basedir = "/var/db/repos"
repo_openpgp_key_path = "/usr/share/openpgp-keys/gentoo-release.asc"
repo_name = "gentoo"
repos_storedir = "/var/tmp/catalyst/repos"
sharedir = "/usr/share/catalyst"
storedir = "/var/tmp/catalyst"
target_distdir = "/var/cache/distfiles"
target_logdir = "/var/log/portage"
target_pkgdir = "/var/cache/binpkgs"
"#;

    #[test]
    fn what_catalyst_reads_is_read_and_written_again() {
        let conf = Conf::parse(FULL).unwrap();
        let written = conf.to_toml().unwrap();
        let same: toml::Table = toml::from_str(&written).unwrap();
        assert_eq!(same, toml::from_str(FULL).unwrap());
    }

    #[test]
    fn a_build_adds_what_is_missing_and_keeps_what_is_there() {
        let (store, script) = (Path::new("/srv/store"), Path::new("/srv/catalystrc"));
        let conf = Conf::parse("jobs = 2\n").unwrap().filled(store, Some(script));
        let expected = "digests = [\"blake2b\", \"sha512\"]\nstoredir = \"/srv/store\"\n\
                        envscript = \"/srv/catalystrc\"\noptions = [\"autoresume\"]\njobs = 2\n";
        assert_eq!(conf.to_toml().unwrap(), expected);
        let conf = Conf::parse(FULL).unwrap();
        assert_eq!(conf.clone().filled(store, Some(script)), conf);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            ("\njob = 4\n", "catalyst.conf:2: unknown field", "did you mean `jobs`"),
            ("options = [\"autoresum\"]\n", "catalyst.conf:1: ", "`autoresume`"),
            ("digests = [\"sha256\", \"sha512\"]\n", "catalyst.conf:1: ", "has no \"blake2b\""),
            ("digest_format = \"bsd\"\n", "catalyst.conf:1: ", "has to be \"linux\""),
            ("storedir = \"store\"\n", "catalyst.conf:1: ", "absolute path"),
            ("repo_name = \"a/b\"\n", "catalyst.conf:1: ", "no name of a repository"),
            ("jobs = \"4\"\n", "catalyst.conf:1: ", "invalid type"),
        ];
        for (text, place, message) in cases {
            let error = Conf::parse(text).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(message), "{text:?}: {error}");
        }
    }
}
