//! The controller's configuration, if the server has a newer one.

use gse_protocol::{
    config::{
        Bundle, Introduction, Trust,
        bundle::{BundleError, MAX_BUNDLE},
    },
    sign::{self, KeyId, Kind, Signature},
};

use super::{
    Client, FetchError,
    servers::{again_if_published_meanwhile, signature_text},
};

/// A configuration that was fetched and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedConfig {
    /// What it says.
    pub bundle: Bundle,
    /// `config.tar`, to be kept.
    pub tar: Vec<u8>,
    /// `config.tar.minisig`, to be kept.
    pub signature: String,
    /// How its key came to be trusted, to be kept; empty where it was all along.
    pub introductions: Vec<Introduction>,
}

/// Why the server's configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its signature is not to be trusted.
    #[error("{server}config.tar.minisig: {error}")]
    Signature {
        /// The server's base URL.
        server: String,
        /// What is wrong.
        error: sign::Error,
    },
    /// It is not to be trusted, or has a mistake in it.
    #[error("{server}config.tar: {error}")]
    Bundle {
        /// The server's base URL.
        server: String,
        /// What is wrong.
        error: BundleError,
    },
}

/// The configuration of `server` (a base URL), if it is newer than what the machine goes by. A key that the
/// machine does not know yet may be introduced to it by configurations that were current before.
///
/// The signature is fetched first: its trusted comment, which is signed too, says the serial, so a
/// machine that is up to date fetches no more than that.
pub fn newer_config(
    client: &Client,
    server: &str,
    trust: &Trust,
) -> Result<Option<FetchedConfig>, ConfigError> {
    let once = || {
        let text = signature_text(client, server, "config.tar")?;
        let bad = |error| ConfigError::Signature { server: server.to_owned(), error };
        let wrong = |error| ConfigError::Bundle { server: server.to_owned(), error };
        let signature = text.parse::<Signature>().map_err(bad)?;
        let mut introduce = |key| introduction(client, server, key);
        let found = trust.extended_to(&signature, &mut introduce);
        let (trust, introductions) = found.map_err(|error| match error {
            BundleError::Signature(error) => bad(error),
            other => wrong(other),
        })?;
        let claim = signature.claim(Kind::Config, &trust.keys).map_err(bad)?;
        if claim.serial <= trust.serial {
            return Ok(None);
        }
        let tar = client.get_small(&format!("{server}config.tar"), MAX_BUNDLE as u64)?;
        let bundle = Bundle::open(&tar, &text, &trust.keys).map_err(wrong)?;
        Ok(Some(FetchedConfig { bundle, tar, signature: text, introductions }))
    };
    again_if_published_meanwhile(once, |error| {
        use BundleError::{Serial, Signature};
        let ConfigError::Bundle { error, .. } = error else { return false };
        matches!(error, Signature(sign::Error::Forged(_)) | Serial { .. })
    })
}

/// What the server has to introduce a key.
fn introduction(client: &Client, server: &str, key: KeyId) -> Option<Introduction> {
    let path = Introduction::path(key);
    let signature = signature_text(client, server, &path).ok()?;
    let tar = client.get_small(&format!("{server}{path}"), MAX_BUNDLE as u64).ok()?;
    Some(Introduction { key, tar, signature })
}
