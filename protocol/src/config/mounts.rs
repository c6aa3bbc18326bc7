//! `controller/mounts.toml`: what is mounted over the read-only root.

use serde::{Deserialize, Serialize};

use super::{Error, drives::Size, near, system::links::Links};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mounts {
    /// Directories in memory, which forget everything at the next boot.
    pub tmpfs: Vec<Tmpfs>,
    /// Where USERDATAFS is mounted, where there is one.
    pub userdata: String,
    /// How it is mounted: words as mount(8) takes them, beside `nodev` and `nosuid`.
    pub userdata_options: String,
    /// Directories that appear elsewhere too.
    pub bind: Vec<Bind>,
    /// Directories of the image that can be written to, over it.
    pub overlay: Vec<Overlay>,
    /// Directories of file servers: `from` is `SERVER:/DIRECTORY`, with an IPv6 address in brackets.
    pub nfs: Vec<Bind>,
    /// Seconds that file servers may take.
    pub nfs_timeout: u32,
}

impl Default for Mounts {
    fn default() -> Self {
        let tmpfs = |path: &str, mode, keep| Tmpfs {
            path: path.to_owned(),
            size: None,
            mode: Mode(mode),
            keep,
            archive: None,
        };
        Self {
            tmpfs: vec![
                tmpfs("/etc", 0o755, true),
                tmpfs("/var/log", 0o755, true),
                tmpfs("/tmp", 0o1777, false),
            ],
            userdata: "/user-data".to_owned(),
            userdata_options: String::new(),
            bind: Vec::new(),
            overlay: Vec::new(),
            nfs: Vec::new(),
            nfs_timeout: 10,
        }
    }
}

/// A directory in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Absolute path in the image.
    pub path: String,
    /// The most that it takes; those without a size share what the others leave.
    pub size: Option<Size>,
    /// Permissions of the directory.
    #[serde(default)]
    pub mode: Mode,
    /// Whether the image's content is copied into it.
    #[serde(default)]
    pub keep: bool,
    /// A signed archive on BOOTFS with its content, such as `etc.tar.zst`.
    #[serde(default)]
    pub archive: Option<String>,
}

/// Permissions, written as an octal string such as `"1777"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

impl Default for Mode {
    fn default() -> Self {
        Self(0o755)
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mode = u32::from_str_radix(&text, 8).ok().filter(|m| *m <= 0o7777);
        mode.map(Self).ok_or_else(|| format!("{text:?} is no mode like \"0755\""))
    }
}

/// A directory that appears elsewhere too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Relative to USERDATAFS, or an absolute path in the system.
    pub from: String,
    /// Absolute path in the system.
    pub to: String,
    /// Whether both directories are made where they are missing.
    #[serde(default = "yes")]
    pub make: bool,
    /// Some of [`FLAGS`], with commas between them.
    #[serde(default)]
    pub options: String,
}

/// The options that every mount may have, as mount(8) names them.
pub const FLAGS: [&str; 8] =
    ["ro", "nosuid", "nodev", "noexec", "sync", "noatime", "nodiratime", "relatime"];

fn yes() -> bool {
    true
}

/// A directory of the image over which changes are kept elsewhere. All are absolute paths in the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The image's directory, over which the whole appears.
    pub lower: String,
    /// What differs from it, in memory or on USERDATAFS; made where it is missing.
    pub upper: String,
    /// An empty directory on the same filesystem as `upper`; made where it is missing.
    pub work: String,
}

/// The name or address of the server in `SERVER:/DIRECTORY`.
pub fn nfs_server(from: &str) -> Option<&str> {
    let (server, _) = from.rsplit_once(":/")?;
    let server = server.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(server);
    let plain = !from.contains(|c: char| c.is_whitespace() || c.is_control());
    (plain && !server.is_empty()).then_some(server)
}

impl Mounts {
    /// Reads `controller/mounts.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/mounts.toml";
        let mounts: Self = super::parse(FILE, text)?;
        let Some((value, message)) = mounts.mistake() else { return Ok(mounts) };
        let mut error = Error::new(FILE, message).in_line_of(text, value);
        error.suggestion = near(value, FLAGS).filter(|near| *near != value).map(str::to_owned);
        Err(error)
    }

    /// A value that is wrong, and what is wrong with it.
    fn mistake(&self) -> Option<(&str, String)> {
        let binds = self.bind.iter().chain(&self.nfs);
        let targets = self.tmpfs.iter().map(|t| &t.path).chain(binds.clone().map(|b| &b.to));
        let overlays = self.overlay.iter().flat_map(|o| [&o.lower, &o.upper, &o.work]);
        for path in targets.chain(overlays).chain([&self.userdata]) {
            if !path.strip_prefix('/').is_some_and(is_below) {
                return Some((path, format!("{path:?} is no absolute path like /var/log")));
            }
        }
        for Bind { from, options, .. } in &self.bind {
            if !is_below(from.strip_prefix('/').unwrap_or(from)) {
                let message =
                    format!("{from:?} is neither a path below USERDATAFS nor an absolute one");
                return Some((from, message));
            }
            let mut words = options.split(',').filter(|word| !word.is_empty());
            if let Some(bad) = words.find(|word| !FLAGS.contains(word)) {
                return Some((bad, format!("a bind has no option {bad:?}")));
            }
        }
        for Bind { from, .. } in &self.nfs {
            if nfs_server(from).is_none() {
                let message = format!("{from:?} is no directory of a server like nas:/home");
                return Some((from, message));
            }
        }
        for options in self.nfs.iter().map(|nfs| &nfs.options).chain([&self.userdata_options]) {
            if options.contains(char::is_whitespace) {
                let message = format!("{options:?} has blanks: options have commas between them");
                return Some((options, message));
            }
        }
        for archive in self.tmpfs.iter().filter_map(|tmpfs| tmpfs.archive.as_ref()) {
            if !is_below(archive) || !archive.ends_with(".tar.zst") {
                let message = format!("{archive:?} is no archive on BOOTFS like etc.tar.zst");
                return Some((archive, message));
            }
        }
        (!(1..=600).contains(&self.nfs_timeout))
            .then(|| ("nfs_timeout", "a file server may take 1 to 600 seconds".to_owned()))
    }

    /// These, and after them those that the file `links` has in its short form.
    pub fn with(mut self, links: &Links) -> Self {
        // The last word about a directory counts: two filesystems in memory would cover each other.
        self.tmpfs.retain(|tmpfs| links.tmpfs.iter().all(|link| link.path != tmpfs.path));
        self.tmpfs.extend_from_slice(&links.tmpfs);
        self.bind.extend_from_slice(&links.binds);
        self.overlay.extend_from_slice(&links.overlays);
        self
    }

    /// Whether the system's `/etc` lies in memory, and is the machine's own.
    pub fn has_etc(&self) -> bool {
        self.tmpfs.iter().any(|tmpfs| tmpfs.path == "/etc")
    }

    /// Where the directory of a bind is in the system.
    pub fn source(&self, bind: &Bind) -> String {
        match bind.from.starts_with('/') {
            true => bind.from.clone(),
            false => format!("{}/{}", self.userdata, bind.from),
        }
    }

    /// Whether an absolute path lies on USERDATAFS.
    pub fn is_userdata(&self, path: &str) -> bool {
        path.strip_prefix(&self.userdata)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A relative path without `.`, `..` or control characters.
pub(super) fn is_below(path: &str) -> bool {
    path.split('/').all(|p| !matches!(p, "" | "." | "..")) && !path.contains(char::is_control)
}
