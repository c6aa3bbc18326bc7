//! Images of real trees, read back by the tools that people have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod archive_support;

use std::{fs, num::NonZero, process::Command};

use archive_support::{Lab, run};
use gse::{archive::archive, progress::Progress};
use gse_protocol::{
    Release, Serial, Sha256,
    index::{Kind, MAX_FRAME},
};
use gse_tests::tree;

#[test]
fn gnu_tar_restores_the_same_tree_with_all_its_attributes() {
    let lab = Lab::new();
    tree::nasty_tree(&lab.tree).unwrap();
    let image = lab.archive("1").unwrap().path;
    let out = lab.path("extracted");
    fs::create_dir(&out).unwrap();
    run(Command::new("tar")
        .args(["--zstd", "-xpf"])
        .arg(image.join("system.tar.zst"))
        .args(["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-C"])
        .arg(&out));
    let want = tree::describe(&lab.tree).unwrap();
    assert!(want.len() > 100, "{} entries", want.len());
    let differences = tree::differences(&want, &tree::describe(&out).unwrap());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_frame_stands_alone_and_holds_the_files_where_the_index_says() {
    let lab = Lab::new();
    tree::nasty_tree(&lab.tree).unwrap();
    let summary = lab.archive("1").unwrap();
    let packed = fs::read(summary.path.join("system.tar.zst")).unwrap();
    let index = lab.index(&summary.path);
    assert_eq!(index.packed_size(), packed.len() as u64);

    let mut tar = Vec::new();
    for placed in index.placed_frames() {
        let start = placed.packed_offset as usize;
        let bytes = &packed[start..start + placed.frame.packed as usize];
        assert_eq!(Sha256::of(bytes), placed.frame.sha256);
        let size = zstd::zstd_safe::get_frame_content_size(bytes).unwrap();
        assert_eq!(size, Some(u64::from(placed.frame.unpacked)));
        assert!(placed.frame.unpacked <= MAX_FRAME);
        assert_eq!(tar.len() as u64, placed.unpacked_offset);
        tar.extend(zstd::bulk::decompress(bytes, MAX_FRAME as usize).unwrap());
    }
    assert_eq!(tar.len() as u64, summary.tar);

    let mut files = 0;
    for entry in &index.entries {
        if let Kind::File(content) = &entry.kind {
            let start = content.offset as usize;
            let stored = &tar[start..start + content.stored() as usize];
            assert_eq!(Sha256::of(stored), content.sha256, "{}", entry.path.escape_ascii());
            files += 1;
        }
    }
    assert!(files > 50, "{files} files");
}

#[test]
fn the_index_has_every_entry_of_the_tree_and_of_the_tar() {
    let lab = Lab::new();
    tree::nasty_tree(&lab.tree).unwrap();
    let summary = lab.archive("1").unwrap();
    let index = lab.index(&summary.path);
    let output = run(Command::new("tar")
        .args(["--zstd", "--quoting-style=escape", "-tf"])
        .arg(summary.path.join("system.tar.zst")));
    assert_eq!(output.stdout.split(|b| *b == b'\n').count() - 1, index.entries.len());
    let mut paths: Vec<_> = index.entries.into_iter().map(|e| e.path).collect();
    paths.sort();
    assert!(paths.iter().eq(tree::describe(&lab.tree).unwrap().keys()));
}

#[test]
fn minisign_and_sha512sum_accept_what_was_published() {
    let lab = Lab::new();
    fs::write(lab.tree.join("file"), "content").unwrap();
    let image = lab.archive("1").unwrap().path;
    for file in
        [image.join("system.tar.zst"), image.join("index.cbor.zst"), lab.dist.join("latest.toml")]
    {
        let output =
            run(Command::new("minisign").arg("-Vp").arg(lab.path("key.pub")).arg("-m").arg(&file));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("serial:1 name:lab version:1"), "{text}");
    }
    run(Command::new("sha512sum").args(["-c", "system.tar.zst.sha512"]).current_dir(&image));
}

#[test]
fn the_release_points_at_the_index_and_its_serial_rises() {
    let lab = Lab::new();
    fs::write(lab.tree.join("file"), "content").unwrap();
    for (version, serial) in [("1", 1), ("2", 2), ("3+b", 3)] {
        let summary = lab.archive(version).unwrap();
        assert_eq!(summary.serial, Serial(serial));
        let signature = fs::read_to_string(lab.dist.join("latest.toml.minisig")).unwrap();
        let text = fs::read(lab.dist.join("latest.toml")).unwrap();
        let release = Release::open(&text, &signature, &lab.keys()).unwrap();
        assert_eq!((release.serial, release.version.as_str()), (Serial(serial), version));
        let index = fs::read(lab.dist.join(&release.index.path)).unwrap();
        assert_eq!(Sha256::of(&index), release.index.sha256);
        assert_eq!(index.len() as u64, release.index.size);
        let image = fs::metadata(lab.dist.join(&release.image.path)).unwrap();
        assert_eq!(image.len(), release.image.size);
        assert_eq!((release.image.entries, release.image.installed_size), (2, 7));
        assert_eq!(lab.index(&summary.path).serial, Serial(serial));
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes_on_any_number_of_cores() {
    let lab = Lab::new();
    tree::nasty_tree(&lab.tree).unwrap();
    let images = [("one", 1), ("three", 3), ("eight", 8)].map(|(dist, threads)| {
        let dist = lab.path(dist);
        let threads = NonZero::new(threads).unwrap();
        let mut options = lab.options("1");
        (options.dist, options.threads) = (&dist, threads);
        let image = archive(&options, &Progress::silent()).unwrap().path;
        ["system.tar.zst", "index.cbor.zst"]
            .map(|name| Sha256::of(&fs::read(image.join(name)).unwrap()))
    });
    assert!(images.iter().all(|i| *i == images[0]), "{images:?}");
}

#[test]
fn sockets_are_left_out_and_the_rest_is_packed() {
    let lab = Lab::new();
    let _socket = std::os::unix::net::UnixListener::bind(lab.tree.join("socket")).unwrap();
    fs::write(lab.tree.join("file"), "content").unwrap();
    let image = lab.archive("1").unwrap().path;
    let paths: Vec<_> = lab.index(&image).entries.into_iter().map(|e| e.path).collect();
    assert_eq!(paths, [b"".to_vec(), b"file".to_vec()]);
}

#[test]
fn the_records_of_a_machine_are_left_out() {
    let lab = Lab::new();
    fs::create_dir_all(lab.tree.join(".gse/pristine")).unwrap();
    fs::create_dir_all(lab.tree.join("home/.gse")).unwrap();
    let image = lab.archive("1").unwrap().path;
    let paths: Vec<_> = lab.index(&image).entries.into_iter().map(|e| e.path).collect();
    assert_eq!(paths, [b"".to_vec(), b"home".to_vec(), b"home/.gse".to_vec()]);
}

#[test]
fn an_empty_tree_is_an_image_too() {
    let lab = Lab::new();
    let summary = lab.archive("1").unwrap();
    assert_eq!((summary.entries, summary.bytes, summary.frames), (1, 0, 1));
    assert_eq!(lab.index(&summary.path).entries.len(), 1);
}

#[test]
fn a_kernel_travels_with_its_image_and_is_signed_with_it() {
    let lab = Lab::new();
    fs::create_dir_all(&lab.tree).unwrap();
    for (name, text) in [("bzImage", "kernel"), ("controller.img", "initramfs")] {
        fs::write(lab.path(name), text).unwrap();
    }
    let (kernel, initramfs) = (lab.path("bzImage"), lab.path("controller.img"));
    let mut options = lab.options("1");
    options.kernel = Some([&kernel, &initramfs]);
    let summary = archive(&options, &Progress::silent()).unwrap();
    let read = |name: &str| fs::read(lab.dist.join(name)).unwrap();
    let signature = String::from_utf8(read("latest.toml.minisig")).unwrap();
    let release = Release::open(&read("latest.toml"), &signature, &lab.keys()).unwrap();
    let kernel = release.kernel.unwrap();
    for (file, text) in [(kernel.image, "kernel"), (kernel.initramfs, "initramfs")] {
        assert_eq!(read(&file.path), text.as_bytes());
        assert_eq!((file.size, file.sha256), (text.len() as u64, Sha256::of(text.as_bytes())));
        assert!(lab.dist.join(&file.path).starts_with(&summary.path));
    }
    // Without one there is no word of it, and one that is missing stops everything.
    let plain = Release {
        kernel: None,
        ..Release::parse(&String::from_utf8(read("latest.toml")).unwrap()).unwrap()
    };
    assert!(!plain.to_toml().contains("kernel"));
    let gone = lab.path("gone");
    let mut options = lab.options("2");
    options.kernel = Some([&gone, &initramfs]);
    let error = archive(&options, &Progress::silent()).unwrap_err().to_string();
    assert!(error.contains("gone"), "{error}");
    assert!(!lab.dist.join("images/lab-2").exists());
}
