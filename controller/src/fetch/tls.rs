//! The cryptography of TLS: ring's, as far as a machine in a lab needs it.
//!
//! A machine has no certificate of its own, so nothing here signs. ChaCha20-Poly1305 is left out, because every server
//! speaks AES-GCM too (RFC 8446, section 9.1 demands it). P-256 comes from another crate: ring's has a table of 148 KiB.
//! Together that is a tenth of the controller.

use std::sync::Arc;

use p256::{
    PublicKey,
    ecdh::EphemeralSecret,
    ecdsa::{DerSignature, VerifyingKey, signature::hazmat::PrehashVerifier as _},
    elliptic_curve::{Generate as _, sec1::ToSec1Point as _},
};
use rustls::{
    Error, NamedGroup, PeerMisbehaved, SignatureScheme,
    crypto::{
        ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom,
        SharedSecret, SupportedKxGroup, WebPkiSupportedAlgorithms,
        ring::{cipher_suite as suite, kx_group},
    },
    pki_types::{
        AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
        alg_id,
    },
    sign::SigningKey,
};
use sha2::{Digest as _, Sha256, Sha384};
use webpki::ring as algorithm;

/// What the client offers and accepts.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, &P256, kx_group::SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Kernel,
        key_provider: &NoKeys,
    }
}

/// All that rustls accepts by default.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        &P256_SHA256,
        &P256_SHA384,
        algorithm::ECDSA_P384_SHA256,
        algorithm::ECDSA_P384_SHA384,
        algorithm::ED25519,
        algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithm::RSA_PKCS1_2048_8192_SHA256,
        algorithm::RSA_PKCS1_2048_8192_SHA384,
        algorithm::RSA_PKCS1_2048_8192_SHA512,
        algorithm::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        algorithm::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        algorithm::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    // TLS 1.2 leaves the curve open; TLS 1.3 takes the first one.
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithm::ECDSA_P384_SHA384, &P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[&P256_SHA256, algorithm::ECDSA_P384_SHA256]),
        (SignatureScheme::ED25519, &[algorithm::ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithm::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithm::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithm::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// ECDSA on P-256, over a hash of either length.
#[derive(Debug)]
struct P256Signature {
    signature: AlgorithmIdentifier,
    long_hash: bool,
}

static P256_SHA256: P256Signature =
    P256Signature { signature: alg_id::ECDSA_SHA256, long_hash: false };
static P256_SHA384: P256Signature =
    P256Signature { signature: alg_id::ECDSA_SHA384, long_hash: true };

impl SignatureVerificationAlgorithm for P256Signature {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let verify = || {
            let key = VerifyingKey::from_sec1_bytes(public_key)?;
            let signature = DerSignature::try_from(signature)?;
            if self.long_hash {
                key.verify_prehash(&Sha384::digest(message), &signature)
            } else {
                key.verify_prehash(&Sha256::digest(message), &signature)
            }
        };
        verify().map_err(|_| InvalidSignature)
    }
}

/// ECDHE on P-256 (RFC 8446, section 4.2.8.2; RFC 8422, section 5.4).
#[derive(Debug)]
struct P256;

impl SupportedKxGroup for P256 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::try_generate().map_err(|_| GetRandomFailed)?;
        let public = secret.public_key().to_sec1_point(false).as_bytes().to_vec();
        Ok(Box::new(P256Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

struct P256Exchange {
    secret: EphemeralSecret,
    public: Vec<u8>,
}

impl ActiveKeyExchange for P256Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // 4: both coordinates, the only form that TLS knows. That the point is on the curve is looked at beneath.
        let peer = match peer.first() {
            Some(4) => PublicKey::from_sec1_bytes(peer).ok(),
            _ => None,
        };
        let peer = peer.ok_or(PeerMisbehaved::InvalidKeyShare)?;
        Ok(self.secret.diffie_hellman(&peer).raw_secret_bytes().as_slice().into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

/// Random bytes from the kernel.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
                .map_err(|_| GetRandomFailed)?;
        }
        Ok(())
    }
}

/// A client without a certificate has no key.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("there are no client certificates".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use rcgen::{KeyPair, SigningKey as _};

    use super::*;

    #[test]
    fn a_signature_counts_for_its_own_bytes_and_key_alone() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signature = key.sign(b"the release").unwrap();
        let check = |key: &KeyPair, message: &[u8], signature: &[u8]| {
            P256_SHA256.verify_signature(key.public_key_raw(), message, signature).is_ok()
        };
        assert!(check(&key, b"the release", &signature));
        assert!(!check(&key, b"the relEase", &signature));
        assert!(!check(&other, b"the release", &signature));
        for at in 0..signature.len() {
            let mut bent = signature.clone();
            bent[at] ^= 1;
            assert!(!check(&key, b"the release", &bent), "byte {at}");
            assert!(!check(&key, b"the release", &signature[..at]), "cut at {at}");
        }
        let hash = P256_SHA384.verify_signature(key.public_key_raw(), b"the release", &signature);
        assert!(hash.is_err(), "another hash was signed");
    }

    #[test]
    fn both_sides_of_an_exchange_on_p256_come_to_the_same_secret() {
        let ours = P256.start().unwrap();
        let theirs = kx_group::SECP256R1.start().unwrap();
        let (our_key, their_key) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
        let secret = ours.complete(&their_key).unwrap();
        assert_eq!(secret.secret_bytes(), theirs.complete(&our_key).unwrap().secret_bytes());
    }

    #[test]
    fn an_exchange_refuses_what_is_no_point_of_the_curve() {
        let mut bent = P256.start().unwrap().pub_key().to_vec();
        bent[64] ^= 1;
        let compressed = [&[2], &bent[1..33]].concat();
        for peer in [&bent[..], &compressed, &[0], &[]] {
            assert!(P256.start().unwrap().complete(peer).is_err(), "{peer:?}");
        }
    }
}
