//! Clones a system from one mounted filesystem to another, for measurements.
//!
//! `clone IMAGE_DIR PUBLIC_KEY_FILE SOURCE TARGET`: the image's folder is needed for its index alone.

use std::{env, error::Error, fs, fs::File, os::fd::AsFd as _, path::Path, time::Instant};

use gse_controller::install::{Limits, LocalTree, clone};
use gse_protocol::{Index, sign::Keys};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [image, key, source, target] = args.as_slice() else {
        return Err("usage: clone IMAGE_DIR PUBLIC_KEY_FILE SOURCE TARGET".into());
    };

    let start = Instant::now();
    let (image, source) = (Path::new(image), Path::new(source));
    let keys = Keys(vec![fs::read_to_string(key)?.parse()?]);
    let packed = fs::read(image.join("index.cbor.zst"))?;
    let signature = fs::read_to_string(image.join("index.cbor.zst.minisig"))?;
    let index = Index::open(&packed, &signature, &keys)?;
    drop(packed);

    let tree = LocalTree::open(source, &source.join(".gse"))?;
    let root = File::open(target)?;
    let report = clone(&index, &tree, None, root.as_fd(), &|_, _| {}, &Limits::default())?;
    println!("seconds {:.3}", start.elapsed().as_secs_f64());
    println!("{report:#?}");
    Ok(())
}
