//! `sources.toml`: where a machine gets its configuration and its system, and whom it trusts.

use serde::Deserialize;

use super::Error;
use crate::sign::{Keys, PublicKey};

const FILE: &str = "sources.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    servers: Vec<String>,
    keys: Vec<String>,
    #[serde(default)]
    tls_roots: Option<String>,
    #[serde(default)]
    proxy: Option<String>,
}

/// Servers and trusted keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Base URLs, `http://` or `https://`, each with a `/` at its end.
    pub servers: Vec<String>,
    /// Any one of these may sign.
    pub keys: Keys,
    /// A PEM file in `config.d` with the certificates that HTTPS servers are checked against; those of
    /// the machine that built the controller where it is not given.
    pub tls_roots: Option<String>,
    /// The URL of the proxy by which servers are reached, `http://`.
    pub proxy: Option<String>,
}

impl Sources {
    /// Reads `sources.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let raw: Raw = super::parse(FILE, text)?;
        let keys = raw.keys.iter().map(|key| {
            key.parse::<PublicKey>()
                .map_err(|e| Error::new(FILE, format!("key {key:?}: {e}")).in_line_of(text, key))
        });
        let keys = Keys(keys.collect::<Result<_, _>>()?);
        let servers = raw
            .servers
            .into_iter()
            .map(|url| server_url(url.clone()).map_err(|e| e.in_line_of(text, &url)))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(roots) = &raw.tls_roots
            && !crate::release::is_safe_path(roots, 4)
        {
            let message = format!("tls_roots {roots:?} is no path in config.d");
            return Err(Error::new(FILE, message).in_line_of(text, "tls_roots"));
        }
        let proxy =
            raw.proxy.map(|url| proxy_url(url.clone()).map_err(|e| e.in_line_of(text, &url)));
        let proxy = proxy.transpose()?;
        Ok(Self { servers, keys, tls_roots: raw.tls_roots, proxy })
    }
}

/// A proxy's URL.
pub fn proxy_url(url: String) -> Result<String, Error> {
    match server_url(url.clone()) {
        Ok(proxy) if proxy.starts_with("http://") => Ok(proxy),
        _ => {
            let message = format!("proxy {url:?} is no URL like http://proxy.example:3128");
            Err(Error::new(FILE, message))
        }
    }
}

/// A server's base URL, with a `/` at its end.
pub fn server_url(mut url: String) -> Result<String, Error> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.map(|r| r.split('/').next().unwrap_or_default());
    let bad = |c: char| c.is_control() || c.is_whitespace() || "?#@\"<>\\".contains(c);
    if host.is_none_or(|h| h.is_empty() || h.starts_with(':')) || url.contains(bad) {
        let message = format!("server {url:?} is no URL like http://gse.example:8080/");
        return Err(Error::new(FILE, message));
    }
    if !url.ends_with('/') {
        url.push('/');
    }
    Ok(url)
}
