//! What is no mistake, but has consequences that an administrator may not have meant.

use std::{fmt, fs, path::Path};

use gse_protocol::{
    config::Bundle,
    sign::{KeyId, Signature},
};

use crate::archive::{RELEASE, RELEASE_SIGNATURE};

/// A consequence of a configuration that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The published release is signed by a key that is not trusted.
    Release(KeyId),
    /// A key is not trusted any more.
    Revoked(KeyId),
    /// A key is trusted from now on.
    Introduced(KeyId),
    /// No server stays.
    Moved(Vec<String>),
    /// Every machine is wiped.
    Wipe(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(key) => write!(
                f,
                "{RELEASE} is signed by key {key}, which machines do not trust any more: they keep the system \
                 that they have until a release by a trusted key is published"
            ),
            Self::Revoked(key) => write!(
                f,
                "key {key} is revoked: build the controller again, or an initramfs that trusts it still \
                 believes it on machines that have no later configuration"
            ),
            Self::Introduced(key) => write!(
                f,
                "key {key} is new: let all machines start once before another is revoked, and build the \
                 controller again"
            ),
            Self::Moved(servers) => write!(
                f,
                "machines go to {} from their next start on: all of this folder has to be there by then",
                servers.join(", ")
            ),
            Self::Wipe(token) => write!(
                f,
                "wipe.token {token:?} is new: every machine makes all of its systems new at its next start"
            ),
        }
    }
}

/// What `new` means for machines that have `old`.
pub(super) fn warnings(dist: &Path, old: Option<&Bundle>, new: &Bundle) -> Vec<Warning> {
    let keys = &new.sources.keys;
    let signature = fs::read_to_string(dist.join(RELEASE_SIGNATURE)).ok();
    let signer = signature.and_then(|text| Some(text.parse::<Signature>().ok()?.signer()));
    let mut found: Vec<_> =
        signer.into_iter().filter(|key| !keys.has(*key)).map(Warning::Release).collect();
    let Some(old) = old else { return found };
    let ids =
        |bundle: &Bundle| bundle.sources.keys.0.iter().map(|key| key.id()).collect::<Vec<_>>();
    let (before, after) = (ids(old), ids(new));
    found.extend(before.iter().filter(|k| !after.contains(k)).map(|k| Warning::Revoked(*k)));
    found.extend(after.iter().filter(|k| !before.contains(k)).map(|k| Warning::Introduced(*k)));
    let servers = &new.sources.servers;
    if !servers.iter().any(|server| old.sources.servers.contains(server)) {
        found.push(Warning::Moved(servers.clone()));
    }
    if let Some(token) = new.boot.wipe.token.as_ref()
        && old.boot.wipe.token.as_ref() != Some(token)
    {
        found.push(Warning::Wipe(token.clone()));
    }
    found
}
