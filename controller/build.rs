//! Makes the controller that travels in every initramfs small: the `tiny` profile is the one that
//! optimises for size, and it aborts on a panic.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=size.ld");
    if env::var("OPT_LEVEL").as_deref() != Ok("z") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in [
        // One bit for each relocation instead of 24 bytes.
        "-z,pack-relative-relocs".to_owned(),
        "--no-eh-frame-hdr".to_owned(),
        format!("-T,{here}/size.ld"),
    ] {
        println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
    }
}
