//! `gse --check-config` and `gse --publish-config`: from `config.d` to the signed `config.tar`.

mod changes;
mod check;
mod load;
mod published;
mod warnings;

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Serial,
    config::{
        self, Introduction,
        bundle::{self, Bundle, BundleError},
    },
    sign::{self, Kind, PublicKey},
};

pub use changes::{Change, Changes};
pub use check::check;
pub use warnings::Warning;

use crate::lock::FolderLock;

/// What to publish, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The administrator's `config.d`.
    pub config: PathBuf,
    /// The folder that is served.
    pub dist: PathBuf,
    /// Seconds since 1970 that the configuration is to bear.
    pub created: u64,
    /// The key that will sign.
    pub signer: PublicKey,
}

/// What publishing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This is what is published already, so nothing was written.
    Unchanged(Serial),
    /// It was published under this serial, and differs by this from what was there before. What an administrator
    /// may not have meant comes with it.
    Published(Serial, Changes, Vec<Warning>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged(serial) => {
                writeln!(
                    f,
                    "nothing has changed since configuration {serial}, nothing is published"
                )
            }
            Self::Published(serial, changes, warnings) => {
                write!(f, "configuration {serial} is published\n{changes}")?;
                warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
            }
        }
    }
}

/// Why a configuration is not published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder.
    #[error(
        "reading the configuration in {0:?}: {1}; --check-config=CONFIG.D and --publish-config=CONFIG.D name the folder"
    )]
    Load(PathBuf, io::Error),
    /// Mistakes in it, one a line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<config::Error>),
    /// Machines would refuse every later configuration.
    #[error(
        "sources.toml: key {0} signs, but is not among `keys`: machines that have this configuration would refuse the next one; add \"{1}\""
    )]
    SignerUnknown(sign::KeyId, String),
    /// Machines would refuse this one.
    #[error(
        "machines that have configuration {serial} do not trust key {signer}, and would refuse what it signs: publish one that adds the key to sources.toml first, signed by the key that they trust"
    )]
    SignerUntrusted {
        /// The published configuration.
        serial: Serial,
        /// The key that was to sign.
        signer: sign::KeyId,
    },
    /// Machines would have nowhere to go.
    #[error(
        "sources.toml: `servers` is empty: machines that have this configuration would never find another"
    )]
    NoServers,
    /// What is published is not what it should be.
    #[error(
        "the published {file:?} cannot be trusted ({why}), so its serial is not known: put back the file that was published, or, if no machine has a configuration of this server yet, remove config.tar and config.tar.minisig"
    )]
    Published {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no higher serial.
    #[error("configuration {0} has the highest serial that there is")]
    Serials(Serial),
    /// The tar.
    #[error("packing the configuration: {0}")]
    Pack(#[from] BundleError),
    /// The signature.
    #[error("signing the configuration: {0}")]
    Sign(String),
    /// The signature is not what machines will accept.
    #[error(
        "the signature that was made for the configuration is not valid ({0}): is the public key that of the secret key?"
    )]
    Signature(sign::Error),
    /// Another process.
    #[error("another gse is publishing into {0:?}: wait until it is done")]
    Busy(PathBuf),
    /// A file.
    #[error("writing {0:?}: {1}")]
    Write(PathBuf, io::Error),
}

/// Checks, signs and publishes a configuration, unless it is the one that is published.
///
/// `sign` makes the text of the `.minisig` for a file of that kind and serial.
pub fn publish<E: fmt::Display>(
    options: &Options,
    sign: impl Fn(Kind, Serial, &[u8]) -> Result<String, E>,
) -> Result<Outcome, Error> {
    let Options { config, dist, created, signer } = options;
    let files = check(config)?;
    let new = Bundle::from_files(Serial(0), *created, files.clone())
        .map_err(|e| Error::Mistakes(vec![e]))?;
    let sources = &new.sources;
    if !sources.keys.0.contains(signer) {
        return Err(Error::SignerUnknown(signer.id(), signer.to_string()));
    }
    if sources.servers.is_empty() {
        return Err(Error::NoServers);
    }

    fs::create_dir_all(dist).map_err(|e| Error::Write(dist.clone(), e))?;
    let _lock = lock(dist)?;
    let before = published::read(dist, signer, &sources.keys)?;
    let changes = Changes::between(&before.files, &files);
    if before.is_whole && changes.0.is_empty() {
        return Ok(Outcome::Unchanged(before.serial));
    }
    let serial = before.serial.0.checked_add(1).map(Serial).ok_or(Error::Serials(before.serial))?;
    let tar = bundle::pack(serial, *created, &files)?;
    let signature = sign(Kind::Config, serial, &tar).map_err(|e| Error::Sign(e.to_string()))?;
    // As every machine will: what they would refuse is not published.
    Bundle::open(&tar, &signature, &sources.keys).map_err(|e| match e {
        BundleError::Signature(e) => Error::Signature(e),
        other => Error::Pack(other),
    })?;

    // The tar first. Machines read the serial off the signature, so in the moment between the two,
    // those that are up to date see nothing new; one that fetches fails to verify, and boots with the
    // configuration that it has. The other way round, every machine would fail.
    if let Some(introduction) = &before.introduction {
        introduce(dist, introduction)?;
    }
    replace(&dist.join(TAR), &tar)?;
    replace(&dist.join(SIGNATURE), signature.as_bytes())?;
    let warnings = warnings::warnings(dist, before.bundle.as_ref(), &new);
    Ok(Outcome::Published(serial, changes, warnings))
}

const TAR: &str = "config.tar";
const SIGNATURE: &str = "config.tar.minisig";

/// Keeps the last configuration that another key signed, for machines that do not know this one yet.
fn introduce(dist: &Path, introduction: &Introduction) -> Result<(), Error> {
    let path = dist.join(Introduction::path(introduction.key));
    let folder = path.parent().unwrap_or(dist);
    fs::create_dir_all(folder).map_err(|e| Error::Write(folder.to_owned(), e))?;
    replace(&path, &introduction.tar)?;
    let mut signature = path.into_os_string();
    signature.push(".minisig");
    replace(Path::new(&signature), introduction.signature.as_bytes())
}

/// Held while the serial is read and used, so that no two configurations get the same one.
fn lock(dist: &Path) -> Result<FolderLock, Error> {
    FolderLock::take(dist)
        .map_err(|e| Error::Write(dist.to_owned(), e))?
        .ok_or_else(|| Error::Busy(dist.to_owned()))
}

/// Replaces a file in one step: whoever reads it, and whenever power fails, it is the old or the new.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Its name starts with a dot, which is never served.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|e: io::Error| Error::Write(path.to_owned(), e))
}
