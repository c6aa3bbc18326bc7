//! `.minisig` files, public keys and trusted comments. The fuzzer has no secret key, so whatever it
//! makes must not verify.
#![no_main]

use gse_protocol::sign::{Claim, Keys, Kind, PublicKey, Signature};
use libfuzzer_sys::fuzz_target;

// minisign's own, of https://jedisct1.github.io/minisign/
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

fuzz_target!(|text: &str| {
    if let Ok(signature) = text.parse::<Signature>() {
        let keys = Keys(vec![KEY.parse().expect("a key")]);
        for kind in [Kind::Release, Kind::Index, Kind::Config, Kind::Image] {
            assert!(signature.verify(kind, b"content", &keys).is_err());
        }
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(claim) = text.parse::<Claim>() {
        assert_eq!(claim.to_string().parse(), Ok(claim));
    }
});
