//! Kernel modules: putting one into the kernel.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module, init_module},
};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the file (Linux 5.17, CONFIG_MODULE_DECOMPRESS).
/// From `include/uapi/linux/module.h`.
const COMPRESSED_FILE: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);

/// The most bytes that a module may have when it is unpacked here.
const MAX_MODULE: u64 = 256 << 20;

/// Puts a module file into the kernel. One that is there already is fine.
///
/// `.ko.zst` is unpacked here if the kernel does not do that; other compressed files need the kernel.
pub fn insert(path: &Path, options: &CStr) -> io::Result<()> {
    let file = File::open(path)?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let flags = if extension == "ko" { ModuleInitFlags::empty() } else { COMPRESSED_FILE };
    match finit_module(&file, options, flags) {
        // An unknown flag, a kernel that unpacks nothing, one that unpacks something else.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOEXEC) if extension == "zst" => {
            // Opened anew: the offset of the first is the kernel's.
            let unpacked = unpack(File::open(path)?)?;
            present(init_module(&unpacked, options))
        }
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) if extension != "ko" => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel does not unpack modules: the initramfs must hold them unpacked",
        )),
        other => present(other),
    }
}

fn present(outcome: nix::Result<()>) -> io::Result<()> {
    match outcome {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn unpack(file: File) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    zstd::Decoder::new(BufReader::new(file))?.take(MAX_MODULE).read_to_end(&mut module)?;
    Ok(module)
}
