//! What must never be published: private keys, known by their look.

/// What a file looks like, if that is something which must stay secret.
pub fn secret(bytes: &[u8]) -> Option<&'static str> {
    let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    // A minisign key is base64 of "Ed", the key derivation ("Sc", or two zeros for none) and "B2".
    if has("RWRTY0Iy") || has("RWQAAEIy") {
        return Some("a minisign secret key");
    }
    let private = bytes.split(|b| *b == b'\n').any(|line| {
        let line = String::from_utf8_lossy(line);
        line.contains("-----BEGIN ") && line.contains("PRIVATE KEY")
    });
    if private {
        return Some("a private key");
    }
    (has("PuTTY-User-Key-File-") || has("AGE-SECRET-KEY-1")).then_some("a private key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_known_by_their_look() {
        let cases: [(&[u8], bool); 9] = [
            (b"-----BEGIN PRIVATE KEY-----\nMIG\n", true),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", true),
            (b"text before\n  -----BEGIN RSA PRIVATE KEY-----", true),
            (b"-----BEGIN PGP PRIVATE KEY BLOCK-----", true),
            (b"untrusted comment: x\nRWRTY0IyAAAA\n", true),
            (b"key = \"RWQAAEIyAAAA\"", true),
            (b"-----BEGIN CERTIFICATE-----\nMIG\n", false),
            (
                b"untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
                false,
            ),
            (b"# a PRIVATE KEY belongs elsewhere", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(secret(bytes).is_some(), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
