//! Installs what a server offers onto what is mounted, as phase 5 does, for measurements.
//!
//! `update URL PUBLIC_KEY_FILE TARGET [SOURCE IMAGE_DIR]`: what SOURCE has of it is taken from there; IMAGE_DIR is the
//! folder of the image that SOURCE was made from, and is read for its index alone. It prints the bytes that were
//! fetched, of all files together.

use std::{env, error::Error, fs, fs::File, os::fd::AsFd as _, path::Path, time::Instant};

use gse_controller::{
    fetch::{Client, Patience, RemoteImage, Retry, choose},
    install::{FrameSources, Limits, LocalTree, Patch, Plan, Seed, make},
};
use gse_protocol::{Index, Sha256, config::Sources, index::unpack, patch::PatchFile, sign::Keys};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [url, key, target, rest @ ..] = args.as_slice() else {
        return Err("usage: update URL PUBLIC_KEY_FILE TARGET [SOURCE IMAGE_DIR]".into());
    };
    let start = Instant::now();
    let keys = Keys(vec![fs::read_to_string(key)?.parse()?]);
    let client = Client::new(None, Patience::default())?;
    let sources =
        Sources { servers: vec![url.clone()], keys: keys.clone(), tls_roots: None, proxy: None };
    let chosen = choose(&client, &sources)?;
    let release = &chosen.release;
    let installed = match rest {
        [] => None,
        [source, image] => Some(installed(Path::new(source), Path::new(image), &keys)?),
        _ => return Err("SOURCE goes with IMAGE_DIR, and nothing after it".into()),
    };
    let older = installed.as_ref().and_then(|(_, _, cbor)| {
        let content = Sha256::of(cbor);
        Some((release.index.since.iter().find(|delta| delta.content == content)?, cbor))
    });
    let (file, cbor) = match &older {
        Some((delta, cbor)) => (delta.file(), cbor.as_slice()),
        None => (release.index.whole(), [].as_slice()),
    };
    let packed = client.get_small(&format!("{url}{}", file.path), file.size)?;
    let index = release.read_index(&unpack(&packed, cbor)?)?;
    let mut fetched = (chosen.bytes.len() + packed.len()) as u64;
    drop(packed);

    let seeds: Vec<Seed<'_>> =
        installed.iter().map(|(tree, index, _)| Seed::new(tree, index)).collect();
    let remote = |path: &str, size| {
        let tell = |switch: &gse_controller::fetch::Switch<'_>| eprintln!("{}", switch.error);
        RemoteImage::new(client.clone(), &chosen.servers, path, size, Retry::default(), tell)
    };
    let digest = installed.as_ref().map(|(_, _, cbor)| Sha256::of(cbor));
    let file = index.patches.iter().find(|file| Some(file.index) == digest);
    let folder = release.image.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut patches = file
        .map(|file| remote(&format!("{folder}/{}", PatchFile::name(&file.version)), file.size()));
    let patch = match (file, seeds.first(), &mut patches) {
        (Some(file), Some(seed), Some(source)) => Some(Patch::open(file, &index, seed, source)?),
        _ => None,
    };
    let plan = Plan::new(&index, &seeds, patch.as_ref())?;
    println!("{}", plan.costs());
    let root = File::open(target)?;
    let mut image = remote(&release.image.path, release.image.size);
    let sources =
        FrameSources { patch: patches.as_mut().map(|source| source as _), image: Some(&mut image) };
    let report = make(&plan, sources, root.as_fd(), &|_, _| {}, &Limits::default())?;
    fetched += image.received() + patches.map_or(0, |patches| patches.received());
    println!("{report:#?}");
    println!("fetched {fetched}");
    println!("seconds {:.3}", start.elapsed().as_secs_f64());
    Ok(())
}

/// What is installed, what it should be, and the CBOR of that.
fn installed(
    source: &Path,
    image: &Path,
    keys: &Keys,
) -> Result<(LocalTree, Index, Vec<u8>), Box<dyn Error>> {
    let packed = fs::read(image.join("index.cbor.zst"))?;
    let signature = fs::read_to_string(image.join("index.cbor.zst.minisig"))?;
    let (index, cbor) = Index::open_with_cbor(&packed, &signature, keys)?;
    Ok((LocalTree::open(source, &source.join(".gse"))?, index, cbor))
}
