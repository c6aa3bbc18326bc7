//! Signatures in minisign's format, checked with the keys that a machine trusts.
//!
//! Format: <https://jedisct1.github.io/minisign/#signature-format>. Both the prehashed form (`ED`,
//! Ed25519 over BLAKE2b-512, what minisign has written since 0.10) and the older one (`Ed`) are read.
//!
//! GSE says in the *trusted comment*, which is signed too, what the file is and which serial it has.
//! So one signed file cannot stand in for another, and the serial of a configuration is known from
//! its signature alone, before the configuration is fetched.

use std::{fmt, io, str::FromStr};

use base64ct::{Base64, Encoding as _};
use blake2::{Blake2b512, Digest as _};
use ed25519_dalek::VerifyingKey;

use crate::Serial;

/// The most bytes that a `.minisig` file may have.
pub const MAX_SIGNATURE: usize = 4096;

/// Which of GSE's files a signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `latest.toml`
    Release,
    /// `index.cbor.zst`
    Index,
    /// `config.tar`
    Config,
    /// `system.tar.zst`
    Image,
    /// The content of a directory, on BOOTFS.
    Archive,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Release, Self::Index, Self::Config, Self::Image, Self::Archive];

    fn word(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Index => "index",
            Self::Config => "config",
            Self::Image => "image",
            Self::Archive => "archive",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a GSE trusted comment says: `gse KIND serial:N` and, after that, words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Which file it is.
    pub kind: Kind,
    /// Its serial.
    pub serial: Serial,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gse {} serial:{}", self.kind, self.serial)
    }
}

impl FromStr for Claim {
    type Err = Error;

    fn from_str(comment: &str) -> Result<Self, Error> {
        let mut words = comment.split(' ');
        let claim = (|| {
            (words.next()? == "gse").then_some(())?;
            let kind = words.next()?;
            let kind = Kind::ALL.into_iter().find(|k| k.word() == kind)?;
            let serial = words.next()?.strip_prefix("serial:")?.parse().ok()?;
            Some(Self { kind, serial })
        })();
        claim.ok_or_else(|| Error::Comment(comment.to_owned()))
    }
}

/// Why a key or a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a minisign public key.
    #[error(
        "this is not a minisign public key: it starts with RW and has 56 characters, as the second line of a .pub file"
    )]
    NotAKey,
    /// The text is not a `.minisig` file.
    #[error("this is not a minisign signature ({0})")]
    NotASignature(&'static str),
    /// No trusted key has this signature's key id.
    #[error("signed by key {0}, which is not among the trusted keys in sources.toml")]
    UnknownKey(KeyId),
    /// The bytes are not those that were signed.
    #[error(
        "the signature by key {0} does not fit: the file was changed or cut after it was signed"
    )]
    Forged(KeyId),
    /// The trusted comment is not one of GSE's.
    #[error(
        "the trusted comment {0:?} does not say what the file is; sign it with gse, not with minisign"
    )]
    Comment(String),
    /// A signature over another kind of file.
    #[error("this is the signature of a {found}, not of a {expected}")]
    WrongKind {
        /// What the caller asked for.
        expected: Kind,
        /// What the signature is over.
        found: Kind,
    },
}

/// A key's id: eight bytes, written as minisign does (little-endian, in hex).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    key: VerifyingKey,
}

impl PublicKey {
    /// The id by which signatures name it.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    /// Reads the 56 characters of a key, or a whole `.pub` file with its comment line.
    fn from_str(text: &str) -> Result<Self, Error> {
        let line = text.lines().map(str::trim).rfind(|l| !l.is_empty()).ok_or(Error::NotAKey)?;
        let bytes = Base64::decode_vec(line).map_err(|_| Error::NotAKey)?;
        let bytes: [u8; 42] = bytes.try_into().map_err(|_| Error::NotAKey)?;
        let (algorithm, rest) = bytes.split_first_chunk::<2>().ok_or(Error::NotAKey)?;
        let (id, key) = rest.split_first_chunk::<8>().ok_or(Error::NotAKey)?;
        if algorithm != b"Ed" {
            return Err(Error::NotAKey);
        }
        let key = key.try_into().map_err(|_| Error::NotAKey)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| Error::NotAKey)?;
        // A key of small order is nobody's: no one made it from a secret.
        if key.is_weak() {
            return Err(Error::NotAKey);
        }
        Ok(Self { id: KeyId(*id), key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [b"Ed".as_slice(), &self.id.0, self.key.as_bytes()].concat();
        f.write_str(&Base64::encode_string(&bytes))
    }
}

/// The keys that are trusted; any one of them is enough, so that keys can be rotated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys(pub Vec<PublicKey>);

impl Keys {
    /// Whether one of them has this id.
    pub fn has(&self, id: KeyId) -> bool {
        self.0.iter().any(|key| key.id == id)
    }
}

/// A `.minisig` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    prehashed: bool,
    key: KeyId,
    signature: [u8; 64],
    comment: String,
    global: [u8; 64],
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = Error::NotASignature;
        if text.len() > MAX_SIGNATURE {
            return Err(bad("too long"));
        }
        let mut lines = text.lines();
        let mut line = |what| lines.next().ok_or(bad(what));
        line("it is empty")?
            .strip_prefix("untrusted comment:")
            .ok_or(bad("no untrusted comment"))?;
        let signature = Base64::decode_vec(line("no signature line")?.trim_end());
        let comment = line("no trusted comment")?.strip_prefix("trusted comment: ");
        let global = Base64::decode_vec(line("no global signature")?.trim_end());

        let signature: [u8; 74] =
            signature.ok().and_then(|s| s.try_into().ok()).ok_or(bad("bad signature line"))?;
        let global =
            global.ok().and_then(|s| s.try_into().ok()).ok_or(bad("bad global signature"))?;
        let (algorithm, rest) = signature.split_first_chunk::<2>().ok_or(bad("too short"))?;
        let (key, signature) = rest.split_first_chunk::<8>().ok_or(bad("too short"))?;
        Ok(Self {
            prehashed: match algorithm {
                b"ED" => true,
                b"Ed" => false,
                _ => return Err(bad("unknown algorithm")),
            },
            key: KeyId(*key),
            signature: signature.try_into().map_err(|_| bad("too short"))?,
            comment: comment.ok_or(bad("no trusted comment"))?.to_owned(),
            global,
        })
    }
}

impl Signature {
    /// The key that it says it is by; nothing of that has been checked.
    pub fn signer(&self) -> KeyId {
        self.key
    }

    /// What this signature claims to be over, once the claim itself has been checked. This says
    /// nothing yet about any file: [`Signature::verify`] does.
    pub fn claim(&self, kind: Kind, keys: &Keys) -> Result<Claim, Error> {
        let signed = [self.signature.as_slice(), self.comment.as_bytes()].concat();
        self.check(self.key(keys)?, &signed, &self.global)?;
        let claim: Claim = self.comment.parse()?;
        if claim.kind != kind {
            return Err(Error::WrongKind { expected: kind, found: claim.kind });
        }
        Ok(claim)
    }

    /// Checks that a trusted key signed exactly `bytes`, as a file of this `kind`.
    pub fn verify(&self, kind: Kind, bytes: &[u8], keys: &Keys) -> Result<Claim, Error> {
        let claim = self.claim(kind, keys)?;
        if self.prehashed {
            self.check(self.key(keys)?, &Blake2b512::digest(bytes), &self.signature)?;
        } else {
            self.check(self.key(keys)?, bytes, &self.signature)?;
        }
        Ok(claim)
    }

    /// As [`Signature::verify`], for a file too large for memory. The outer error is the reader's.
    pub fn verify_reader(
        &self,
        kind: Kind,
        mut file: impl io::Read,
        keys: &Keys,
    ) -> io::Result<Result<Claim, Error>> {
        if !self.prehashed {
            return Ok(Err(Error::NotASignature("not prehashed, which a large file must be")));
        }
        // First what costs nothing: a wrong key or kind is known without reading gigabytes.
        let (claim, key) = match self.claim(kind, keys).and_then(|c| Ok((c, self.key(keys)?))) {
            Ok(found) => found,
            Err(e) => return Ok(Err(e)),
        };
        let mut hasher = Blake2b512::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.check(key, &hasher.finalize(), &self.signature).map(|()| claim))
    }

    fn key<'k>(&self, keys: &'k Keys) -> Result<&'k PublicKey, Error> {
        keys.0.iter().find(|k| k.id == self.key).ok_or(Error::UnknownKey(self.key))
    }

    fn check(&self, key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.key.verify_strict(message, &signature).map_err(|_| Error::Forged(key.id))
    }
}
