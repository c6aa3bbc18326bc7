//! Installs an image from a folder, for measurements: what `gse --archive` makes, onto what is mounted.
//!
//! `install IMAGE_DIR PUBLIC_KEY_FILE TARGET [FRAME_MEMORY_MIB]`

use std::{env, error::Error, fs, fs::File, os::fd::AsFd as _, path::Path, time::Instant};

use gse_controller::install::{FileSource, Limits, install};
use gse_protocol::{Index, sign::Keys};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [image, key, target, rest @ ..] = args.as_slice() else {
        return Err("usage: install IMAGE_DIR PUBLIC_KEY_FILE TARGET [FRAME_MEMORY_MIB]".into());
    };
    let mut limits = Limits::default();
    if let [memory] = rest {
        limits.memory = memory.parse::<u64>()? << 20;
    }

    let start = Instant::now();
    let image = Path::new(image);
    let keys = Keys(vec![fs::read_to_string(key)?.parse()?]);
    let packed = fs::read(image.join("index.cbor.zst"))?;
    let signature = fs::read_to_string(image.join("index.cbor.zst.minisig"))?;
    let index = Index::open(&packed, &signature, &keys)?;
    drop(packed);
    let opened = start.elapsed();

    let mut source = FileSource::new(File::open(image.join("system.tar.zst"))?);
    let root = File::open(target)?;
    let report = install(&index, &mut source, root.as_fd(), &|_| {}, &limits)?;
    println!("seconds {:.3}", start.elapsed().as_secs_f64());
    println!("index   {:.3}", opened.as_secs_f64());
    println!("{report:#?}");
    let status = fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|l| l.starts_with("VmHWM")) {
        println!("{line}");
    }
    Ok(())
}
