//! Makes the controller that travels in every initramfs small: the `tiny` profile is the one that
//! optimises for size, and it aborts on a panic.

use std::env;

/// What the standard library calls of libunwind. It would walk the stack by tables that `size.ld` takes out, so its 53
/// KiB are of no use. In their place is a function that takes whatever it is given, does nothing and, for root,
/// returns 0: to `_Unwind_Backtrace` that is an empty stack, and nothing calls the others.
const UNWINDER: [&str; 12] = [
    "Backtrace",
    "FindEnclosingFunction",
    "GetCFA",
    "GetDataRelBase",
    "GetIP",
    "GetIPInfo",
    "GetLanguageSpecificData",
    "GetRegionStart",
    "GetTextRelBase",
    "Resume",
    "SetGR",
    "SetIP",
];

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
    for function in UNWINDER {
        println!("cargo::rustc-link-arg-bins=-Wl,--defsym=_Unwind_{function}=getuid");
    }
}
