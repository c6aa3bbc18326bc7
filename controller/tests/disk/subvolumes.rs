//! Subvolumes of USERDATAFS, on a real btrfs.

use std::{fs, path::Path, process::Command};

use gse_controller::{
    clock::Date,
    disk::subvolumes,
    log::Log,
    mount::{MountFlags, Mounted},
};
use gse_protocol::config::{Drives, drives::Role};

use crate::common::{Loop, MIB, run, sh};

/// Brings the subvolumes of `top` to what `drives.toml` says with these lines for USERDATAFS.
fn bring(top: &Path, lines: &str, today: Date) {
    let toml = format!(
        "[[disk]]\n[[disk.partition]]\nlabel = \"USERDATAFS\"\nsize = \"all\"\nfilesystem = \"btrfs\"\n{lines}\n"
    );
    let drives = Drives::parse(&toml).unwrap();
    let wanted = drives.partition(Role::UserData).unwrap();
    subvolumes::bring(
        top,
        &wanted.subvolumes.0,
        &wanted.deleted_subvolumes,
        today,
        &Log::console(),
    );
}

fn names(top: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(top)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// How many bytes fit into a file of the folder, if that many at most do.
fn fits(folder: &Path, mib: usize) -> bool {
    let file = folder.join("big");
    // Random, so that nothing compresses it; synced, so that it is counted.
    let words = format!("dd if=/dev/urandom of={} bs=1M count={mib} conv=fsync", file.display());
    let done = Command::new("sh").args(["-c", &words]).output().unwrap().status.success();
    fs::remove_file(&file).unwrap();
    run("btrfs", ["filesystem", "sync"].map(AsRef::as_ref).into_iter().chain([folder.as_os_str()]));
    done
}

#[test]
fn subvolumes_are_made_limited_copied_and_deleted_as_the_configuration_says() {
    let disk = Loop::new(400 * MIB, 512);
    sh("mkfs.btrfs", "-q", &disk.path);
    let log = Log::console();
    let (target, none) = (disk.folder("mnt"), MountFlags::empty());
    let mounted = Mounted::new(&disk.path, &target, "btrfs", none, "subvolid=5", &log).unwrap();
    let top = mounted.path();
    let day = |day: i64| Date::at(1_795_392_000 + day * 86_400);

    fs::write(top.join("@file"), "mine").unwrap();
    let first = "subvolumes = ['@data', '@home quota=20M snapshots=2', '@file']";
    bring(top, first, day(0));
    assert_eq!(names(top), ["@data", "@file", "@home", "@home.2026-11-23"]);
    assert_eq!(fs::read_to_string(top.join("@file")).unwrap(), "mine");
    fs::write(top.join("@home/thesis"), "chapter 1").unwrap();
    // The same day has one snapshot.
    bring(top, first, day(0));
    assert!(!top.join("@home.2026-11-23/thesis").exists());
    assert!(fits(&top.join("@home"), 5) && !fits(&top.join("@home"), 30));
    assert!(fits(&top.join("@data"), 30), "only what has a quota is limited");

    for next in 1..4 {
        bring(top, first, day(next));
    }
    assert_eq!(names(top), ["@data", "@file", "@home", "@home.2026-11-25", "@home.2026-11-26"]);
    let old = top.join("@home.2026-11-25/thesis");
    assert_eq!(fs::read_to_string(&old).unwrap(), "chapter 1");
    assert!(fs::write(&old, "changed").is_err(), "snapshots are read-only");

    // A larger quota, none at all, and what is not asked for any more.
    bring(top, "subvolumes = ['@home quota=60M']", day(4));
    assert!(fits(&top.join("@home"), 30));
    assert_eq!(names(top), ["@data", "@file", "@home", "@home.2026-11-25", "@home.2026-11-26"]);
    bring(top, "subvolumes = ['@home']", day(4));
    assert!(fits(&top.join("@home"), 80));

    run(
        "btrfs",
        ["subvolume", "create"]
            .map(AsRef::as_ref)
            .into_iter()
            .chain([top.join("@data/inner").as_os_str()]),
    );
    fs::create_dir(top.join("folder")).unwrap();
    let gone = "subvolumes = ['@home']
\
                deleted_subvolumes = ['@data', '@home.2026-11-25', 'folder', '@none']";
    for _ in 0..2 {
        bring(top, gone, day(4));
        assert_eq!(names(top), ["@file", "@home", "@home.2026-11-26", "folder"]);
    }
    assert_eq!(fs::read_to_string(top.join("@home/thesis")).unwrap(), "chapter 1");
    mounted.unmount().unwrap();
}
