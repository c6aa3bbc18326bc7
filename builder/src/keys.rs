//! Key pairs in minisign's format, and signing with them.
//!
//! The files are those of the `minisign` tool (<https://jedisct1.github.io/minisign/>), so it can sign
//! with a key made here and the other way round. What is signed is checked on the machines by
//! [`gse_protocol::sign`].

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding as _};
use gse_protocol::sign::{self, Claim, Keys, PublicKey, Signature};
use minisign::{KeyPair, SecretKeyBox};

use crate::password::{self, Password};

/// What no key file is larger than, in bytes.
const MAX_KEY_FILE: u64 = 4096;

/// Why a key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there already.
    #[error("{0} exists, and keys are never written over: move it away, or choose another name")]
    Exists(PathBuf),
    /// Writing a key file.
    #[error("writing {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading a key file.
    #[error("reading the key {path} (gse --keygen={} makes one)", secret_file(path).display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could have copied the secret key.
    #[error(
        "{path} has mode {mode:04o}, so others can read this secret key: chmod 600 {path}, and make a new key if anybody had access"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} is not a minisign secret key: {why}")]
    NotASecretKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file holds something else.
    #[error("reading the public key {path}")]
    NotAPublicKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: sign::Error,
    },
    /// The password does not decrypt the key.
    #[error("the password of {0} is wrong")]
    WrongPassword(PathBuf),
    /// No password could be had.
    #[error("asking for the password of {path}")]
    Password {
        /// Which key.
        path: PathBuf,
        /// Why.
        source: password::Error,
    },
    /// The signature did not come out right.
    #[error("signing: {0}")]
    Sign(String),
    /// The signature that was just made does not fit the key.
    #[error("the new signature does not fit its own key: the secret key file is damaged")]
    Damaged(#[source] sign::Error),
}

/// A secret key, decrypted.
pub struct SecretKey {
    secret: minisign::SecretKey,
    public: PublicKey,
}

/// The public key's file: FILE.pub beside the secret key FILE.
pub fn public_file(secret: &Path) -> PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Makes a key pair: the secret key in `file` (mode 0600), encrypted if there is a password, and the
/// public key in [`public_file`]. Neither is ever written over.
pub fn generate(file: &Path, password: Option<Password>) -> Result<PublicKey, Error> {
    let generated = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.into_inner())),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let failed = |e: minisign::PError| Error::Sign(e.to_string());
    let pair = generated.map_err(failed)?;
    let comment = Some("GSE secret key: keep it private");
    let secret = pair.sk.to_box(comment).map_err(failed)?.into_string();
    let public = pair.pk.to_box().map_err(failed)?.into_string();
    let parsed = public.parse().map_err(Error::Damaged)?;

    write_new(file, 0o600, &secret)?;
    write_new(&public_file(file), 0o644, &public).inspect_err(|_| {
        // A secret key without its public half is of no use, and would block the next attempt.
        let _ = std::fs::remove_file(file);
    })?;
    Ok(parsed)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let write = |source| Error::Write { path: path.to_owned(), source };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
        _ => write(source),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|source| {
        let _ = std::fs::remove_file(path);
        write(source)
    })
}

/// Reads a `.pub` file.
pub fn load_public(path: &Path) -> Result<PublicKey, Error> {
    let (_, text) = read(path)?;
    let wrong = |source| Error::NotAPublicKey { path: path.to_owned(), source };
    text.parse().map_err(wrong)
}

/// The other way round than [`public_file`].
fn secret_file(path: &Path) -> PathBuf {
    let is_public = path.extension().is_some_and(|end| end == "pub");
    if is_public { path.with_extension("") } else { path.to_owned() }
}

fn read(path: &Path) -> Result<(File, String), Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    (&file).take(MAX_KEY_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok((file, text))
}

impl SecretKey {
    /// Reads a secret key that nobody but its owner may read. `password` is called if it is encrypted.
    pub fn load(
        path: &Path,
        password: impl FnOnce() -> Result<Password, password::Error>,
    ) -> Result<Self, Error> {
        let (file, text) = read(path)?;
        let metadata =
            file.metadata().map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
        let wrong = |why: String| Error::NotASecretKey { path: path.to_owned(), why };

        let secret = if is_encrypted(&text).map_err(|why| wrong(why.to_owned()))? {
            let password = password()
                .map_err(|source| Error::Password { path: path.to_owned(), source })?
                .into_inner();
            SecretKeyBox::from(text).into_secret_key(Some(password)).map_err(|e| {
                match e.kind() {
                    minisign::ErrorKind::Verify => Error::WrongPassword(path.to_owned()),
                    _ => wrong(e.to_string()),
                }
            })?
        } else {
            plain_key(&text).map_err(wrong)?
        };
        let public = minisign::PublicKey::from_secret_key(&secret)
            .and_then(|key| key.to_box())
            .map_err(|e| wrong(e.to_string()))?;
        let public = public.into_string().parse().map_err(Error::Damaged)?;
        Ok(Self { secret, public })
    }

    /// The other half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The text of the `.minisig` file over what `bytes` gives, prehashed (Ed25519 over BLAKE2b-512).
    /// The trusted comment is the claim and, after it, `words` for people (may be empty).
    pub fn sign(&self, claim: Claim, words: &str, bytes: impl Read) -> Result<String, Error> {
        let comment = if words.is_empty() { claim.to_string() } else { format!("{claim} {words}") };
        let untrusted = format!("signature by GSE key {}", self.public.id());
        let signature = minisign::sign(None, &self.secret, bytes, Some(&comment), Some(&untrusted))
            .map_err(|e| Error::Sign(e.to_string()))?
            .into_string();
        // A key that `minisign -W` wrote has no checksum, so damage to it shows only here.
        signature
            .parse::<Signature>()
            .and_then(|s| s.claim(claim.kind, &Keys(vec![self.public.clone()])))
            .map_err(Error::Damaged)?;
        Ok(signature)
    }
}

/// The raw key: two bytes each of signature, key derivation and checksum algorithm, then the rest.
fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let line = text.lines().nth(1).ok_or("it has no second line")?;
    Base64::decode_vec(line.trim_end()).map_err(|_| "its second line is not base64")
}

/// Whether the key derivation algorithm is other than none.
fn is_encrypted(text: &str) -> Result<bool, &'static str> {
    match decode(text)?.get(..4) {
        Some([b'E', b'd', 0, 0]) => Ok(false),
        Some([b'E', b'd', b'S', b'c']) => Ok(true),
        _ => Err("it has another algorithm"),
    }
}

/// `minisign -W` leaves the checksum zero, which the crate takes for damage in a box but not in bytes.
fn plain_key(text: &str) -> Result<minisign::SecretKey, String> {
    const CHECKSUM: usize = 32;
    let bytes = decode(text)?;
    let unchecked = bytes.iter().rev().take(CHECKSUM).all(|b| *b == 0);
    if unchecked {
        minisign::SecretKey::from_bytes(&bytes).map_err(|e| e.to_string())
    } else {
        SecretKeyBox::from(text.to_owned()).into_unencrypted_secret_key().map_err(|e| e.to_string())
    }
}
