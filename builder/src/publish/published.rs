//! The configuration that is published already.

use std::{fs, io, path::Path};

use gse_protocol::{
    Serial,
    config::{
        Introduction,
        bundle::{Bundle, Files, unpack},
    },
    sign::{self, Keys, Kind, PublicKey, Signature},
};

use super::{Error, SIGNATURE, TAR};

/// What is published.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// 0 where nothing is.
    pub(super) serial: Serial,
    pub(super) files: Files,
    /// Whether the two files are there and belong together.
    pub(super) is_whole: bool,
    /// What it says, where it is whole.
    pub(super) bundle: Option<Bundle>,
    /// By which machines that trust its signer get to know the next one, if that is another.
    pub(super) introduction: Option<Introduction>,
}

/// Reads and verifies what is published. Power may have failed between the writing of the two files;
/// that is no error, and publishing again mends it.
pub(super) fn read(dist: &Path, signer: &PublicKey, keys: &Keys) -> Result<Published, Error> {
    let path = dist.join(SIGNATURE);
    let wrong = |why: String| Error::Published { file: path.clone(), why };
    let tar = existing(&dist.join(TAR))?;
    let Some(signature) = existing(&path)? else {
        // Never signed, so no machine has it.
        return Ok(Published::default());
    };
    let text = String::from_utf8(signature).map_err(|e| wrong(e.to_string()))?;
    let signature: Signature = text.parse().map_err(|e: sign::Error| wrong(e.to_string()))?;

    // The keys that machines trust now are named in what is published itself. The key that is about
    // to sign must be one of them, or they would not take the next one.
    let bundle = tar.as_deref().and_then(|t| Some((Bundle::parse(t).ok()?, unpack(t).ok()?, t)));
    if let Some((bundle, mut files, bytes)) = bundle
        && let Ok(claim) = signature.verify(Kind::Config, bytes, &bundle.sources.keys)
    {
        if !bundle.sources.keys.0.contains(signer) {
            return Err(Error::SignerUntrusted { serial: claim.serial, signer: signer.id() });
        }
        files.remove("serial");
        let (key, tar) = (signer.id(), bytes.to_vec());
        let is_other = signature.signer() != key;
        let introduction = is_other.then_some(Introduction { key, tar, signature: text });
        let (serial, bundle) = (claim.serial, Some(bundle));
        return Ok(Published { serial, files, is_whole: true, bundle, introduction });
    }
    let claim = signature.claim(Kind::Config, keys).map_err(|e| wrong(e.to_string()))?;
    Ok(Published { serial: claim.serial, ..Published::default() })
}

fn existing(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::Published { file: path.to_owned(), why: e.to_string() }),
    }
}
