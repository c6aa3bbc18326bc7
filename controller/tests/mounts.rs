//! What `mounts.toml` and the short form in `links` name, mounted over a tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::disk::run;
use gse_controller::{log::Log, mounts};
use gse_protocol::config::{Mounts, system::links};
use tempfile::TempDir;

/// A tree over which things are mounted; they go with it.
struct System(TempDir);

impl System {
    /// Its own filesystem, so that unmounting it unmounts all.
    fn new() -> Self {
        let system = Self(TempDir::new().unwrap());
        run(Command::new("mount").args(["-t", "tmpfs", "system"]).arg(system.0.path()));
        for (path, text) in [("opt/own", "image"), ("srv/data/x", "data"), ("home/.keep", "")] {
            let path = system.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        system
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let done = Command::new("umount").args(["--recursive"]).arg(self.0.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.0.path().display());
        }
    }
}

/// Only what the lines of `links` say; USERDATAFS is at `/user-data`.
fn mounts(text: &str) -> Mounts {
    let links = links::parse("links", text).unwrap();
    Mounts { tmpfs: Vec::new(), ..Mounts::default() }.with(&links)
}

#[test]
fn directories_are_bound_where_the_links_say() {
    let system = System::new();
    let config = mounts(
        "bindmount f=y /srv/data /home\nbindmount f=y /srv/made /srv/data\nbindmount f=n /gone /home\n\
         bindmount f=y /user-data/home /opt\n",
    );
    // What is on USERDATAFS is left out where there is none.
    assert_eq!(mounts::mount_points(&config, false), ["home", "srv/data"]);
    assert_eq!(mounts::mount_points(&config, true), ["home", "srv/data", "opt", "user-data"]);
    mounts::mount_all(system.0.path(), &config, None, &Log::console()).unwrap();
    assert_eq!(system.read("home/x").as_deref(), Some("data"));
    assert!(system.at("srv/made").is_dir());
    assert_eq!(system.read("srv/data/x"), None);
    assert!(!system.at("gone").exists() && !system.at("user-data").exists());
    assert_eq!(system.read("opt/own").as_deref(), Some("image"));
}

#[test]
fn an_overlay_keeps_changes_beside_the_image() {
    let system = System::new();
    let config = mounts("overlay /opt /srv/changes /srv/work\noverlay /none /srv/a /srv/b\n");
    mounts::mount_all(system.0.path(), &config, None, &Log::console()).unwrap();
    assert_eq!(system.read("opt/own").as_deref(), Some("image"));
    fs::write(system.at("opt/new"), "change").unwrap();
    assert_eq!(system.read("srv/changes/new").as_deref(), Some("change"));
    let points = run(Command::new("findmnt").args(["-rno", "FSTYPE"]).arg(system.at("opt")));
    assert_eq!(points.trim(), "overlay");
    assert!(Path::new(&system.at("srv/work")).is_dir());
}
