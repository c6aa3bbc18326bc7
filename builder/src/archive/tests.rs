//! What happens between the listing of the tree and the reading of its files.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use gse_protocol::Sha256;

use super::*;

const THREADS: NonZero<usize> = NonZero::new(4).unwrap();

/// Lists a tree with a small file and one of several frames, changes it, and packs it.
fn pack_after(change: impl FnOnce(&Path)) -> Result<pack::Packed, Error> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("small"), "content").unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("sub/large"), vec![1; 9 << 20]).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for name in ["small", "sub/large"] {
        let file = File::options().write(true).open(directory.path().join(name)).unwrap();
        file.set_modified(hour_ago).unwrap();
    }

    let mut tree = walk::walk(open_tree(directory.path()).unwrap(), THREADS).unwrap();
    let layout = layout::lay_out(&mut tree.entries).unwrap();
    change(directory.path());
    let progress = Progress::silent();
    let job =
        pack::Job { tree: &tree, layout: &layout, level: 1, threads: THREADS, progress: &progress };
    let pool = Pool::new(8, zstd::zstd_safe::compress_bound(FRAME as usize));
    pack::pack(&job, &pool, &mut |_| Ok(()))
}

#[test]
fn a_file_that_changes_while_it_is_archived_is_named() {
    let append = |path: &Path, text: &str| {
        let mut bytes = fs::read(path).unwrap();
        bytes.extend_from_slice(text.as_bytes());
        fs::write(path, bytes).unwrap();
    };
    type Change<'c> = &'c dyn Fn(&Path);
    let cases: [(&str, Change<'_>, &str); 9] = [
        ("small", &|p| append(p, "more"), "small changed"),
        ("small", &|p| fs::write(p, "con").unwrap(), "small became shorter"),
        ("small", &|p| fs::write(p, "CONTENT").unwrap(), "small changed"),
        ("small", &|p| fs::remove_file(p).unwrap(), "small vanished"),
        ("sub/large", &|p| append(p, "x"), "sub/large changed"),
        // Whether the worker that finds the end too early or the one before it is first is chance.
        ("sub/large", &|p| fs::write(p, vec![1; 5 << 20]).unwrap(), "sub/large"),
        ("sub/large", &|p| fs::remove_file(p).unwrap(), "sub/large vanished"),
        (
            "small",
            &|p| {
                fs::rename(p, p.with_file_name("moved")).unwrap();
                symlink("moved", p).unwrap();
            },
            "small became a link",
        ),
        (
            "sub",
            &|p| {
                fs::rename(p, p.with_file_name("moved")).unwrap();
                symlink("moved", p).unwrap();
            },
            "sub/large became a link",
        ),
    ];
    for (path, change, want) in cases {
        let error = pack_after(|root| change(&root.join(path))).err().unwrap().to_string();
        assert!(error.starts_with(want) && error.contains("while it was archived"), "{error}");
    }
}

#[test]
fn a_file_that_became_a_pipe_does_not_make_gse_wait_for_ever() {
    let error = pack_after(|root| {
        fs::remove_file(root.join("small")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(root.join("small")).status();
        assert!(made.unwrap().success());
    });
    let error = error.err().unwrap().to_string();
    assert!(error.contains("small"), "{error}");
}

#[test]
fn a_tree_that_stays_as_it_is_gets_all_its_digests() {
    let packed = pack_after(|_| {}).unwrap();
    let digests: Vec<_> = packed.digests.iter().map(|(_, digest)| *digest).collect();
    assert_eq!(digests, [Sha256::of(b"content"), Sha256::of(&vec![1; 9 << 20])]);
    assert_eq!(packed.frames.len(), 6);
}

#[test]
fn a_writer_that_fails_stops_the_workers() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("large"), vec![1; 64 << 20]).unwrap();
    let mut tree = walk::walk(open_tree(directory.path()).unwrap(), THREADS).unwrap();
    let layout = layout::lay_out(&mut tree.entries).unwrap();
    let progress = Progress::silent();
    let job =
        pack::Job { tree: &tree, layout: &layout, level: 1, threads: THREADS, progress: &progress };
    let pool = Pool::new(5, zstd::zstd_safe::compress_bound(FRAME as usize));
    let mut frames = 0;
    let result = pack::pack(&job, &pool, &mut |_| {
        frames += 1;
        if frames == 3 { Err(Error::System("full".to_owned())) } else { Ok(()) }
    });
    assert_eq!((result.err().unwrap().to_string().as_str(), frames), ("full", 3));
}
