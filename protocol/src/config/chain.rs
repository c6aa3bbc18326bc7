//! How a machine comes to trust a key that it has never seen: by a configuration that names the key, signed by
//! one that it trusts.
//!
//! The last configuration that another key signed *introduces* the new one, and stays published for machines that
//! were switched off when it was the current one. Each step has to be newer than what the machine has: else
//! who stole a revoked key could show a configuration from before it was revoked.

use super::bundle::{Bundle, BundleError};
use crate::{
    Serial,
    sign::{self, KeyId, Keys, Signature},
};

/// The most keys that lie between what a machine trusts and what is published.
const MAX_STEPS: usize = 8;

/// What a machine goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The keys of its configuration.
    pub keys: Keys,
    /// Configurations up to this are old.
    pub serial: Serial,
    /// So are those that were published before this, in seconds since 1970.
    pub created: u64,
}

/// A configuration by which machines get to know a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The key.
    pub key: KeyId,
    /// The whole `config.tar`.
    pub tar: Vec<u8>,
    /// Its `config.tar.minisig`.
    pub signature: String,
}

impl Introduction {
    /// Where the configuration that introduces `key` is, below a server's root; its signature has `.minisig` after it.
    pub fn path(key: KeyId) -> String {
        format!("keys/{key}.tar")
    }
}

impl Trust {
    /// What to go by for a file with this signature, and the introductions that led there, in their order; none
    /// where its key is trusted already. `introduce` gives what there is for a key.
    ///
    /// # Errors
    /// [`sign::Error::UnknownKey`] where nothing leads to its key, and whatever is wrong with an introduction.
    pub fn extended_to(
        &self,
        signature: &Signature,
        introduce: &mut dyn FnMut(KeyId) -> Option<Introduction>,
    ) -> Result<(Self, Vec<Introduction>), BundleError> {
        let unknown = || sign::Error::UnknownKey(signature.signer());
        let mut steps = Vec::new();
        let mut wanted = signature.signer();
        while !self.keys.has(wanted) {
            let step = (steps.len() < MAX_STEPS).then(|| introduce(wanted)).flatten();
            let step = step.ok_or_else(unknown)?;
            wanted = step.signature.parse::<Signature>()?.signer();
            steps.push(step);
        }
        steps.reverse();
        let mut trust = self.clone();
        for step in &steps {
            let bundle = Bundle::open(&step.tar, &step.signature, &trust.keys)?;
            if bundle.serial <= trust.serial || bundle.created < trust.created {
                return Err(unknown().into());
            }
            let (keys, serial, created) = (bundle.sources.keys, bundle.serial, bundle.created);
            trust = Self { keys, serial, created };
        }
        Ok((trust, steps))
    }
}
