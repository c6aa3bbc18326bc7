//! What goes wrong on a server: a clear sentence each time, and what was published stays as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod archive_support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use archive_support::{Lab, Tmpfs, chain, fail, gse, run};
use gse::{
    archive::archive,
    keys::{self, SecretKey},
    password,
    progress::Progress,
};
use gse_protocol::Serial;
use rustix::mount::MountFlags;

#[test]
fn a_tree_that_is_missing_or_no_directory_is_refused() {
    let lab = Lab::new();
    fs::write(lab.path("file"), "").unwrap();
    for tree in ["missing", "file"] {
        let tree = lab.path(tree);
        let mut options = lab.options("1");
        options.tree = &tree;
        let error = chain(archive(&options, &Progress::silent()).unwrap_err());
        assert!(error.contains(&format!("opening the tree {}", tree.display())), "{error}");
    }
    assert!(!lab.dist.exists());
}

#[test]
fn a_name_or_version_that_is_no_plain_word_is_refused() {
    let lab = Lab::new();
    for version in ["", "a/b", "..", ".hidden", "-x", "a b", "\u{e9}"] {
        let error = chain(lab.archive(version).unwrap_err());
        assert!(error.starts_with(&format!("--version {version:?} may only")), "{error}");
    }
    assert!(!lab.dist.exists());
}

#[test]
fn an_image_cannot_be_published_into_its_own_tree() {
    let lab = Lab::new();
    symlink(&lab.tree, lab.path("link")).unwrap();
    for dist in [lab.tree.join("srv/dist"), lab.tree.clone(), lab.path("link").join("dist")] {
        let mut options = lab.options("1");
        options.dist = &dist;
        let error = chain(archive(&options, &Progress::silent()).unwrap_err());
        assert!(error.contains("lies inside the tree"), "{error}");
    }
    assert_eq!(fs::read_dir(&lab.tree).unwrap().count(), 0);
}

#[test]
fn a_version_is_published_once() {
    let lab = Lab::new();
    lab.archive("1").unwrap();
    let before = lab.published();
    let error = chain(lab.archive("1").unwrap_err());
    assert!(
        error.ends_with(
            "images/lab-1 exists: a published version never changes, so choose another --version"
        ),
        "{error}"
    );
    assert_eq!(lab.published(), before);
}

#[test]
fn a_release_pointer_that_cannot_be_trusted_stops_everything() {
    let lab = Lab::new();
    lab.archive("1").unwrap();
    let (file, signature) = (lab.dist.join("latest.toml"), lab.dist.join("latest.toml.minisig"));
    let (text, signed) =
        (fs::read_to_string(&file).unwrap(), fs::read_to_string(&signature).unwrap());
    let cases = [
        (Some(text.replace("serial = 1", "serial = 9")), Some(signed.clone()), "changed or cut"),
        (Some(text.clone()), Some(signed.replace("serial:1", "serial:9")), "changed or cut"),
        (Some(text.clone()), Some("rubbish".to_owned()), "not a minisign signature"),
        (Some(text.clone()), None, "latest.toml.minisig is missing"),
        (None, Some(signed.clone()), "latest.toml is missing"),
    ];
    for (text, signed, want) in cases {
        for (path, content) in [(&file, text), (&signature, signed)] {
            match content {
                Some(content) => fs::write(path, content).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        let before = lab.published();
        let error = chain(lab.archive("2").unwrap_err());
        assert!(error.contains(want) && error.contains("backup"), "{error}");
        assert_eq!(lab.published(), before);
    }
    fs::write(&file, text).unwrap();
    assert_eq!(lab.archive("2").unwrap().serial, Serial(2));
}

#[test]
fn after_a_change_of_keys_the_older_public_key_lets_the_serial_rise() {
    let lab = Lab::new();
    lab.archive("1").unwrap();
    keys::generate(&lab.path("new"), None).unwrap();
    let new = SecretKey::load(&lab.path("new"), password::ask).unwrap();
    let mut options = lab.options("2");
    options.key = &new;
    let error = chain(archive(&options, &Progress::silent()).unwrap_err());
    assert!(error.contains("--pub"), "{error}");
    let older = [lab.key.public().clone()];
    options.older_keys = &older;
    assert_eq!(archive(&options, &Progress::silent()).unwrap().serial, Serial(2));
}

#[test]
fn the_serial_goes_on_from_the_images_when_the_release_pointer_is_lost() {
    let lab = Lab::new();
    lab.archive("1").unwrap();
    lab.archive("2").unwrap();
    fs::remove_file(lab.dist.join("latest.toml")).unwrap();
    fs::remove_file(lab.dist.join("latest.toml.minisig")).unwrap();
    assert_eq!(lab.archive("3").unwrap().serial, Serial(3));
}

#[test]
fn a_full_disk_leaves_what_was_published_before() {
    let lab = Lab::new();
    let _small = Tmpfs::new(&lab.dist, "4m", MountFlags::empty());
    fs::write(lab.tree.join("file"), "small").unwrap();
    lab.archive("1").unwrap();
    let before = lab.published();
    run(Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=12", "status=none", "of=large"])
        .current_dir(&lab.tree));
    let error = chain(lab.archive("2").unwrap_err());
    assert!(error.contains("writing") && error.contains("No space left"), "{error}");
    assert_eq!(lab.published(), before);
    fs::remove_file(lab.tree.join("large")).unwrap();
    assert_eq!(lab.archive("2").unwrap().serial, Serial(2));
}

#[test]
fn a_disk_that_is_full_at_any_moment_leaves_all_or_nothing() {
    let lab = Lab::new();
    let _small = Tmpfs::new(&lab.dist, "1m", MountFlags::empty());
    fs::write(lab.tree.join("file"), "small").unwrap();
    lab.archive("1").unwrap();
    let before = lab.published();
    // 4 KiB a page: with each one less, another file is the first that does not fit.
    let mut refused = 0;
    for pages in (0..=14).rev() {
        let fill = lab.dist.join("fill");
        let free = rustix::fs::statfs(&lab.dist).unwrap().f_bavail;
        fs::write(&fill, vec![1; (free as usize).saturating_sub(pages) * 4096]).unwrap();
        let result = lab.archive("2");
        fs::remove_file(&fill).unwrap();
        match result {
            Ok(summary) => {
                assert_eq!(summary.serial, Serial(2));
                let file = lab.dist.join("latest.toml");
                gse::verify::verify(&file, lab.key.public()).unwrap();
                // Back to the first release, for the next round.
                fs::remove_dir_all(summary.path).unwrap();
                for (path, bytes) in before.iter().filter(|(path, _)| path.is_file()) {
                    fs::write(path, bytes).unwrap();
                }
            }
            Err(error) => {
                let error = chain(error);
                assert!(error.contains("No space left"), "{error}");
                refused += 1;
            }
        }
        assert_eq!(lab.published(), before, "with {pages} pages");
    }
    assert!((1..15).contains(&refused), "{refused} rounds were refused");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let lab = Lab::new();
    let _locked = Tmpfs::new(&lab.dist, "1m", MountFlags::RDONLY);
    let error = chain(lab.archive("1").unwrap_err());
    assert!(error.contains("making the folder") && error.contains("dist/images"), "{error}");
}

#[test]
fn two_at_once_cannot_take_the_same_serial() {
    let lab = Lab::new();
    fs::create_dir(&lab.dist).unwrap();
    let other = fs::File::open(&lab.dist).unwrap();
    other.lock().unwrap();
    let error = chain(lab.archive("1").unwrap_err());
    assert!(error.contains("another gse publishes into"), "{error}");
    drop(other);
    lab.archive("1").unwrap();
}

#[test]
fn what_an_interrupted_run_left_is_cleared_away() {
    let lab = Lab::new();
    lab.archive("1").unwrap();
    fs::create_dir(lab.dist.join("images/.unfinished-abc")).unwrap();
    fs::write(lab.dist.join("images/.unfinished-abc/system.tar.zst"), "half").unwrap();
    fs::write(lab.dist.join(".latest.toml.new"), "half").unwrap();
    lab.archive("2").unwrap();
    let hidden = |(path, _): &(std::path::PathBuf, Vec<u8>)| {
        path.strip_prefix(&lab.dist).unwrap().to_string_lossy().contains("/.")
            || path.file_name().unwrap().to_string_lossy().starts_with('.')
    };
    assert!(!lab.published().iter().any(hidden));
}

#[test]
fn a_publication_that_was_cut_off_between_its_renames_is_finished() {
    for signature_was_renamed in [true, false] {
        let lab = Lab::new();
        let [file, signature] = ["latest.toml", "latest.toml.minisig"].map(|n| lab.dist.join(n));
        lab.archive("1").unwrap();
        let old = [&file, &signature].map(|path| fs::read(path).unwrap());
        lab.archive("2").unwrap();
        fs::rename(&file, lab.dist.join(".latest.toml.new")).unwrap();
        fs::write(&file, &old[0]).unwrap();
        if !signature_was_renamed {
            fs::rename(&signature, lab.dist.join(".latest.toml.minisig.new")).unwrap();
            fs::write(&signature, &old[1]).unwrap();
        }
        // Refused, as the version is there; but by then the release has been finished.
        let error = chain(lab.archive("2").unwrap_err());
        assert!(error.contains("exists"), "{error}");
        let verified = gse::verify::verify(&file, lab.key.public()).unwrap();
        assert_eq!(verified.serial, Serial(2));
        assert_eq!(lab.archive("3").unwrap().serial, Serial(3));
    }
}

#[test]
fn the_kernels_own_file_systems_are_refused_and_others_are_packed() {
    let lab = Lab::new();
    let _other = Tmpfs::new(&lab.tree.join("mounted"), "1m", MountFlags::empty());
    fs::write(lab.tree.join("mounted/file"), "there").unwrap();
    let image = lab.archive("1").unwrap().path;
    assert!(lab.index(&image).entries.iter().any(|e| e.path == b"mounted/file"));

    let target = lab.tree.join("proc");
    fs::create_dir(&target).unwrap();
    rustix::mount::mount("proc", &target, "proc", MountFlags::empty(), None).unwrap();
    let result = lab.archive("2");
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).unwrap();
    let error = chain(result.unwrap_err());
    assert!(error.starts_with("proc of the tree has the kernel's /proc"), "{error}");
}

#[test]
fn the_program_says_what_is_wrong_in_one_line_and_exits_with_1() {
    let lab = Lab::new();
    fs::set_permissions(lab.path("key.pub"), fs::Permissions::from_mode(0o644)).unwrap();
    let root = lab.path("");
    let archive = |key: &str| {
        let mut command = gse(&root);
        command.args(["--archive=tree", "--version=1", "--dist=dist"]).arg(format!("--key={key}"));
        command
    };
    let text = fail(&mut archive("none"), 1);
    assert!(
        text.starts_with("gse: reading the key none (gse --keygen=none makes one): "),
        "{text}"
    );
    let text = fail(&mut archive("key.pub"), 1);
    assert!(text.starts_with("gse: key.pub has mode 0644, so others can read"), "{text}");
    let text = fail(gse(&root).args(["--archive=none", "--version=1", "--key=key"]), 1);
    assert_eq!(
        text,
        "gse: opening the tree none, which has to be a directory: No such file or directory (os error 2)\n"
    );
    let text = fail(gse(&root).args(["--archive=tree"]), 2);
    assert!(text.contains("--version <V>"), "{text}");

    let output = run(archive("key").arg("--json"));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["serial"], 1);
    assert_eq!(summary["entries"], 1);
    assert_eq!(summary["path"], "dist/images/gse-1");
}
