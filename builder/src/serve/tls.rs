//! Certificates for HTTPS.

use std::{path::PathBuf, sync::Arc};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::Error;

/// The files that HTTPS needs.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate and those that vouch for it, PEM.
    pub certificates: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Tls {
    pub(super) fn load(&self) -> Result<RustlsConfig, Error> {
        let bad_chain = |message: String| Error::Certificates(self.certificates.clone(), message);
        let chain = CertificateDer::pem_file_iter(&self.certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| bad_chain(e.to_string()))?;
        if chain.is_empty() {
            return Err(bad_chain("there is no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| Error::TlsKey(self.key.clone(), e.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad_chain(e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| match e {
                rustls::Error::InconsistentKeys(_) => Error::TlsMismatch {
                    certificates: self.certificates.clone(),
                    key: self.key.clone(),
                },
                other => bad_chain(other.to_string()),
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(RustlsConfig::from_config(Arc::new(config)))
    }
}
