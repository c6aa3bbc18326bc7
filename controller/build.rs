//! Makes the controller that travels in every initramfs small: the `tiny` profile is the one that
//! optimises for size, and it aborts on a panic.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=size.ld");
    if env::var("OPT_LEVEL").as_deref() != Ok("z") {
        return;
    }
    for argument in [
        // One bit for each relocation instead of 24 bytes.
        "-z,pack-relative-relocs",
        "--no-eh-frame-hdr",
        // The linker is started in the workspace's root. A clone's own path would be kept with what was compiled, and
        // that is shared with other clones (.ci/run).
        "-T,controller/size.ld",
    ] {
        println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
    }
}
