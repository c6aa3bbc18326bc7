//! `config.tar`: the part of `config.d` that machines receive, as one signed file.
//!
//! A plain tar of regular files. The first is `serial`, which holds the serial as a decimal number and,
//! on a second line, the seconds since 1970 at which it was published.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Read as _},
};

use super::{Boot, Drives, Error, Machines, Mounts, Network, Sources, toml_text};
use crate::{
    Serial,
    sign::{self, Keys, Kind, Signature},
};

/// The most bytes that `config.tar` may have.
pub const MAX_BUNDLE: usize = 16 << 20;

/// A file of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Permissions.
    pub mode: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

/// The files of a configuration, by their path in `config.d`.
pub type Files = BTreeMap<String, File>;

/// A configuration as machines receive it: its files, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Rises with each publication; 0 in a `config.d` that was never published.
    pub serial: Serial,
    /// Seconds since 1970 at which it was published.
    pub created: u64,
    /// `sources.toml`
    pub sources: Sources,
    /// `controller/boot.toml`
    pub boot: Boot,
    /// `controller/network.toml`
    pub network: Network,
    /// `controller/drives.toml`
    pub drives: Drives,
    /// `controller/mounts.toml`
    pub mounts: Mounts,
    /// `controller/machines.toml`
    pub machines: Machines,
    /// Files to apply to the system, by their path below `controller/system/`.
    pub system: Files,
    /// The PEM file that `tls_roots` in `sources.toml` names.
    pub tls_roots: Option<Vec<u8>>,
    /// What all but `system` was read from.
    pub texts: Files,
}

/// Why a `config.tar` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The signature.
    #[error(transparent)]
    Signature(#[from] sign::Error),
    /// The tar.
    #[error("config.tar: {0}")]
    Tar(String),
    /// A file in it.
    #[error(transparent)]
    File(#[from] Error),
    /// The serial in the file is not the signed one.
    #[error("config.tar has serial {file}, its signature says {signed}")]
    Serial {
        /// In the file.
        file: Serial,
        /// In the trusted comment.
        signed: Serial,
    },
}

impl Bundle {
    /// Checks the signature, and then reads the files.
    pub fn open(bytes: &[u8], signature: &str, keys: &Keys) -> Result<Self, BundleError> {
        let claim = signature.parse::<Signature>()?.verify(Kind::Config, bytes, keys)?;
        let bundle = Self::parse(bytes)?;
        if bundle.serial != claim.serial {
            return Err(BundleError::Serial { file: bundle.serial, signed: claim.serial });
        }
        Ok(bundle)
    }

    /// Reads a tar whose signature has been checked.
    pub fn parse(tar: &[u8]) -> Result<Self, BundleError> {
        let mut files = unpack(tar)?;
        let stamp = files.remove("serial").ok_or_else(|| tar_error("it has no serial"))?;
        let text = String::from_utf8_lossy(&stamp.bytes).into_owned();
        let mut lines = text.lines().map(str::parse::<u64>);
        match (lines.next(), lines.next()) {
            (Some(Ok(serial)), Some(Ok(created))) => {
                Ok(Self::from_files(Serial(serial), created, files)?)
            }
            _ => Err(tar_error("its serial is not two lines with a number each")),
        }
    }

    /// Reads the files of a `config.d`. Files that only the builder reads are passed over.
    pub fn from_files(serial: Serial, created: u64, files: Files) -> Result<Self, Error> {
        let text = |name| file_text(name, &files);
        let sources = sources(&files)?;
        let system = system_files(&files);
        if let Some(mistake) = super::system::mistakes(&system).into_iter().next() {
            return Err(mistake);
        }
        let roots = sources.tls_roots.as_ref().and_then(|name| files.get(name));
        let tls_roots = roots.map(|file| file.bytes.clone());
        let is_read =
            |name: &str| FILES.contains(&name) || sources.tls_roots.as_deref() == Some(name);
        let texts = files.iter().filter(|(name, _)| is_read(name));
        let texts = texts.map(|(name, file)| (name.clone(), file.clone())).collect();
        Ok(Self {
            serial,
            created,
            sources,
            boot: Boot::parse(&text("controller/boot.toml")?)?,
            network: Network::parse(&text("controller/network.toml")?)?,
            drives: Drives::parse(&text("controller/drives.toml")?)?,
            mounts: Mounts::parse(&text("controller/mounts.toml")?)?,
            machines: Machines::parse(&text("controller/machines.toml")?)?,
            system,
            tls_roots,
            texts,
        })
    }
}

/// The TOML files that machines read, `sources.toml` being the only one that must be there.
pub const FILES: [&str; 6] = [
    "sources.toml",
    "controller/boot.toml",
    "controller/network.toml",
    "controller/drives.toml",
    "controller/mounts.toml",
    "controller/machines.toml",
];

/// The mistakes of every file of a `config.d`, of a TOML file the first one: where [`Bundle::from_files`]
/// stops at one, an administrator wants to see them all.
pub fn mistakes(files: &Files) -> Vec<Error> {
    let toml = FILES.iter().filter_map(|name| check_file(name, files).err());
    let system = system_files(files);
    let mut found: Vec<Error> = toml.chain(super::system::mistakes(&system)).collect();
    let machines = file_text("controller/machines.toml", files);
    if let Ok(machines) = machines.and_then(|text| Machines::parse(&text)) {
        found.extend(super::system::empty_rooms(&system, &machines));
    }
    found
}

fn check_file(name: &str, files: &Files) -> Result<(), Error> {
    let text = file_text(name, files)?;
    match name {
        "sources.toml" => sources(files).map(drop),
        "controller/boot.toml" => Boot::parse(&text).map(drop),
        "controller/network.toml" => Network::parse(&text).map(drop),
        "controller/drives.toml" => Drives::parse(&text).map(drop),
        "controller/mounts.toml" => Mounts::parse(&text).map(drop),
        _ => Machines::parse(&text).map(drop),
    }
}

/// The files below `controller/system/`.
fn system_files(files: &Files) -> Files {
    let below = |(path, file): (&String, &File)| {
        Some((path.strip_prefix("controller/system/")?.to_owned(), file.clone()))
    };
    files.iter().filter_map(below).collect()
}

/// The text of a file; none where there is no such file.
fn file_text<'f>(name: &str, files: &'f Files) -> Result<Cow<'f, str>, Error> {
    files.get(name).map_or(Ok(Cow::Borrowed("")), |file| toml_text(name, &file.bytes))
}

fn sources(files: &Files) -> Result<Sources, Error> {
    const FILE: &str = "sources.toml";
    if !files.contains_key(FILE) {
        return Err(Error::new(FILE, "this file is missing: it names servers and keys"));
    }
    let text = file_text(FILE, files)?;
    let sources = Sources::parse(&text)?;
    match sources.tls_roots.as_ref().filter(|r| !files.contains_key(*r)) {
        Some(roots) => {
            let message = format!("tls_roots names {roots:?}, which is not in config.d");
            Err(Error::new(FILE, message).in_line_of(&text, "tls_roots"))
        }
        None => Ok(sources),
    }
}

/// Whether machines receive this file of `config.d`.
pub fn is_for_machines(path: &str, sources: &Sources) -> bool {
    path == "sources.toml"
        || path.starts_with("controller/")
        || sources.tls_roots.as_deref() == Some(path)
}

/// The tar of these files. The same files, serial and time always give the same bytes.
pub fn pack(serial: Serial, created: u64, files: &Files) -> Result<Vec<u8>, BundleError> {
    if files.contains_key("serial") {
        return Err(tar_error("a file must not be named \"serial\": that name is taken"));
    }
    let stamp = File { mode: 0o644, bytes: format!("{serial}\n{created}\n").into_bytes() };
    let mut tar = tar::Builder::new(Vec::new());
    for (path, file) in
        [("serial", &stamp)].into_iter().chain(files.iter().map(|(p, f)| (p.as_str(), f)))
    {
        append(&mut tar, path, file, created).map_err(|e| tar_error(format!("{path}: {e}")))?;
    }
    let bytes = tar.into_inner().map_err(|e| tar_error(e.to_string()))?;
    if bytes.len() > MAX_BUNDLE {
        return Err(tar_error(format!(
            "{} bytes, and at most {MAX_BUNDLE} are allowed",
            bytes.len()
        )));
    }
    Ok(bytes)
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    file: &File,
    created: u64,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    if header.set_path(path).is_err() {
        // Too long for a header. `Builder::append_data` has the same remedy, but stumbles over names
        // that it cuts right after "..".
        let mut long = tar::Header::new_gnu();
        long.set_path("././@LongLink")?;
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_size(path.len() as u64 + 1);
        long.set_cksum();
        tar.append(&long, [path.as_bytes(), &[0]].concat().as_slice())?;
        header.set_path("long-name")?;
    }
    header.set_size(file.bytes.len() as u64);
    header.set_mode(file.mode);
    header.set_mtime(created);
    header.set_cksum();
    tar.append(&header, file.bytes.as_slice())
}

fn tar_error(message: impl Into<String>) -> BundleError {
    BundleError::Tar(message.into())
}

/// The files of a tar that holds nothing but regular files and directories, by plain paths.
pub fn unpack(bytes: &[u8]) -> Result<Files, BundleError> {
    if bytes.len() > MAX_BUNDLE {
        return Err(tar_error(format!(
            "{} bytes, and at most {MAX_BUNDLE} are allowed",
            bytes.len()
        )));
    }
    let mut files = Files::new();
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().map_err(|e| tar_error(e.to_string()))? {
        let mut entry = entry.map_err(|e| tar_error(e.to_string()))?;
        let path = entry.path_bytes();
        let path = str::from_utf8(path.strip_prefix(b"./").unwrap_or(&path))
            .map_err(|_| tar_error(format!("{:?} is no UTF-8", String::from_utf8_lossy(&path))))?
            .to_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(tar_error(format!("{path:?} is no regular file")));
        }
        if !is_file_path(&path) {
            return Err(tar_error(format!("{path:?} would leave the tree or is no plain path")));
        }
        let mode = entry.header().mode().map_err(|e| tar_error(format!("{path}: {e}")))? & 0o7777;
        // Never more than the tar itself has, whatever the header says.
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|e| tar_error(format!("{path}: {e}")))?;
        if content.len() as u64 != entry.size() {
            return Err(tar_error(format!("{path:?} is cut short")));
        }
        if files.insert(path.clone(), File { mode, bytes: content }).is_some() {
            return Err(tar_error(format!("{path:?} is there twice")));
        }
    }
    for path in files.keys() {
        let folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        if let Some(both) = folders.into_iter().find(|folder| files.contains_key(*folder)) {
            return Err(tar_error(format!("{both:?} is a file, and {path:?} lies in it")));
        }
    }
    Ok(files)
}

/// A relative path without `.`, `..` or control characters. Unlike
/// [`is_safe_path`](crate::release::is_safe_path), names that configuration files really have are
/// allowed, such as `.bashrc` or `getty@tty1.service`.
fn is_file_path(path: &str) -> bool {
    path.len() <= 1024
        && path.split('/').all(|p| !matches!(p, "" | "." | "..") && p.len() <= 255)
        && !path.contains(char::is_control)
}
