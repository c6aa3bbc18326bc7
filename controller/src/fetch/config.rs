//! The controller's configuration, if the server has a newer one.

use gse_protocol::{
    Serial,
    config::{
        Bundle,
        bundle::{BundleError, MAX_BUNDLE},
    },
    sign::{self, Keys, Kind, Signature},
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

/// The configuration of `server` (a base URL), if its serial is higher than `current`.
///
/// The signature is fetched first: its trusted comment, which is signed too, says the serial, so a
/// machine that is up to date fetches no more than that.
pub fn newer_config(
    client: &Client,
    server: &str,
    keys: &Keys,
    current: Serial,
) -> Result<Option<FetchedConfig>, ConfigError> {
    let once = || {
        let signature = signature_text(client, server, "config.tar")?;
        let claim = signature
            .parse::<Signature>()
            .and_then(|s| s.claim(Kind::Config, keys))
            .map_err(|error| ConfigError::Signature { server: server.to_owned(), error })?;
        if claim.serial <= current {
            return Ok(None);
        }
        let tar = client.get_small(&format!("{server}config.tar"), MAX_BUNDLE as u64)?;
        let bundle = Bundle::open(&tar, &signature, keys)
            .map_err(|error| ConfigError::Bundle { server: server.to_owned(), error })?;
        Ok(Some(FetchedConfig { bundle, tar, signature }))
    };
    again_if_published_meanwhile(once, |error| {
        use BundleError::{Serial, Signature};
        let ConfigError::Bundle { error, .. } = error else { return false };
        matches!(error, Signature(sign::Error::Forged(_)) | Serial { .. })
    })
}
