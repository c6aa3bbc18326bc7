//! `latest.toml`.
#![no_main]

use gse_protocol::Release;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(release) = Release::parse(text) {
        assert_eq!(Release::parse(&release.to_toml()).as_ref(), Ok(&release));
    }
});
