//! What `mounts.toml` and the short form in `links` name, mounted over a tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    disk::{Disk, run},
    pack::Signer,
};
use gse_controller::{
    boot_log::{self, Outcome},
    log::Log,
    mounts::{self, UserData, archive},
};
use gse_protocol::{
    config::{
        Mounts,
        drives::{Subvolume, Subvolumes},
        system::links,
    },
    sign::Kind,
};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use tempfile::TempDir;

/// This thread gets mounts of its own, and an empty `/run`: the controller's own places are there.
fn alone() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "run", "/run"]));
    fs::create_dir("/run/gse").unwrap();
}

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

/// What `mounts.toml` says with this text.
fn parsed(text: &str) -> Mounts {
    Mounts::parse(text).unwrap()
}

fn all(system: &System, config: &Mounts, userdata: Option<&UserData>) -> Vec<String> {
    mounts::mount_all(system.0.path(), config, userdata, &Log::console()).unwrap()
}

fn options(path: &Path) -> String {
    run(Command::new("findmnt").args(["-rno", "OPTIONS", "--target"]).arg(path))
}

#[test]
fn a_full_directory_in_memory_is_an_error_in_that_directory() {
    alone();
    let system = System::new();
    for dir in ["tmp", "etc", "var/log"] {
        fs::create_dir_all(system.at(dir)).unwrap();
    }
    fs::write(system.at("etc/passwd"), "root").unwrap();
    let config = parsed(
        "tmpfs = [{ path = '/etc', keep = true }, { path = '/var/log', mode = '0750' }, \
         { path = '/tmp', mode = '1777', size = '2M' }, { path = '/none' }]",
    );
    assert_eq!(all(&system, &config, None), ["etc", "var/log", "tmp"]);
    assert_eq!(system.read("etc/passwd").as_deref(), Some("root"));
    let mode = |path| run(Command::new("stat").args(["-c", "%a"]).arg(system.at(path)));
    assert_eq!((mode("tmp").trim(), mode("var/log").trim()), ("1777", "750"));
    assert!(options(&system.at("tmp")).contains("nosuid,nodev"));
    let full = fs::write(system.at("tmp/big"), vec![1; 3 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    fs::write(system.at("var/log/small"), "room").unwrap();
    // Nor do files without content take all of the memory.
    let many = (0..100_000).find(|n| fs::write(system.at(&format!("tmp/{n}")), "").is_err());
    assert!(many.unwrap() < 5000, "{many:?}");
    fs::write(system.at("etc/small"), "room").unwrap();
}

#[test]
fn what_does_not_fit_into_memory_stays_as_the_image_has_it() {
    alone();
    let system = System::new();
    fs::write(system.at("opt/big"), vec![1; 3 << 20]).unwrap();
    let config = parsed("tmpfs = [{ path = '/opt', size = '2M', keep = true }]");
    assert_eq!(all(&system, &config, None), Vec::<String>::new());
    assert_eq!(fs::read(system.at("opt/big")).unwrap().len(), 3 << 20);
    fs::create_dir(system.at("etc")).unwrap();
    fs::write(system.at("etc/big"), vec![1; 3 << 20]).unwrap();
    let config = parsed("tmpfs = [{ path = '/etc', size = '2M', keep = true }]");
    let error = mounts::mount_all(system.0.path(), &config, None, &Log::console()).unwrap_err();
    assert!(error.to_string().contains("copying the image's /etc into memory"), "{error}");
}

/// An archive of directories, as `tar --zstd` makes it.
fn tar(below: &Path, directory: &str) -> Vec<u8> {
    let tar = Command::new("tar").args(["--zstd", "-c", "-C"]).arg(below).arg(directory).output();
    tar.unwrap().stdout
}

#[test]
fn a_signed_archive_on_bootfs_has_the_content_and_any_other_has_not() {
    alone();
    let boot = TempDir::new().unwrap();
    fs::create_dir_all(boot.path().join("tree/etc/ssh")).unwrap();
    fs::write(boot.path().join("tree/etc/passwd"), "archive").unwrap();
    fs::write(boot.path().join("tree/etc/ssh/key"), "secret").unwrap();
    run(Command::new("chown").args(["5:6"]).arg(boot.path().join("tree/etc/ssh/key")));
    run(Command::new("chmod").args(["4600"]).arg(boot.path().join("tree/etc/ssh/key")));
    let (signer, stranger) = (Signer::new(), Signer::new());
    let (good, other) = (tar(&boot.path().join("tree"), "etc"), tar(boot.path(), "tree"));
    let mut changed = good.clone();
    changed[20] ^= 1;
    let sign = |signer: &Signer, kind, bytes: &[u8]| Some(signer.sign(kind, 1, bytes));
    let config = parsed("tmpfs = [{ path = '/etc', archive = 'etc.tar.zst', keep = true }]");
    for (bytes, signature, expected) in [
        (&good, sign(&signer, Kind::Archive, &good), "archive"),
        (&good, None, "image"),
        (&good, sign(&stranger, Kind::Archive, &good), "image"),
        (&good, sign(&signer, Kind::Config, &good), "image"),
        (&changed, sign(&signer, Kind::Archive, &good), "image"),
        (&changed, sign(&signer, Kind::Archive, &changed), "image"),
        // Of another directory.
        (&other, sign(&signer, Kind::Archive, &other), "image"),
    ] {
        let system = System::new();
        fs::create_dir(system.at("etc")).unwrap();
        fs::write(system.at("etc/passwd"), "image").unwrap();
        fs::write(boot.path().join("etc.tar.zst"), bytes).unwrap();
        let minisig = boot.path().join("etc.tar.zst.minisig");
        let _ = fs::remove_file(&minisig);
        if let Some(signature) = signature {
            fs::write(&minisig, signature).unwrap();
        }
        archive::fetch(boot.path(), &config, &signer.keys(), &Log::console());
        assert_eq!(all(&system, &config, None), ["etc"]);
        assert_eq!(system.read("etc/passwd").as_deref(), Some(expected));
        if expected == "archive" {
            let key = Command::new("stat")
                .args(["-c", "%a %u:%g"])
                .arg(system.at("etc/ssh/key"))
                .output();
            assert_eq!(key.unwrap().stdout, b"4600 5:6\n");
            assert!(!Path::new("/run/gse/archives/etc.tar.zst").exists(), "it takes memory");
        }
    }
}

#[test]
fn an_archive_cannot_lead_out_of_its_directory() {
    alone();
    let boot = TempDir::new().unwrap();
    let signer = Signer::new();
    let mut builder = tar::Builder::new(Vec::new());
    let header = |kind, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let mut link = header(tar::EntryType::Symlink, 0);
    builder.append_link(&mut link, "etc/out", "/run/gse").unwrap();
    let mut file = header(tar::EntryType::Regular, 1);
    builder.append_data(&mut file, "etc/out/escaped", b"x".as_slice()).unwrap();
    let bytes = zstd::encode_all(builder.into_inner().unwrap().as_slice(), 1).unwrap();
    fs::write(boot.path().join("etc.tar.zst"), &bytes).unwrap();
    let signature = signer.sign(Kind::Archive, 1, &bytes);
    fs::write(boot.path().join("etc.tar.zst.minisig"), signature).unwrap();
    let system = System::new();
    fs::create_dir(system.at("etc")).unwrap();
    fs::write(system.at("etc/passwd"), "image").unwrap();
    let config = parsed("tmpfs = [{ path = '/etc', archive = 'etc.tar.zst' }]");
    archive::fetch(boot.path(), &config, &signer.keys(), &Log::console());
    assert_eq!(all(&system, &config, None), ["etc"]);
    assert!(!Path::new("/run/gse/escaped").exists());
    assert_eq!(system.read("etc/passwd").as_deref(), Some("image"));
}

#[test]
fn the_users_data_are_mounted_with_options_and_bound_with_others() {
    alone();
    let disk = Disk::new("btrfs", 200);
    fs::write(disk.path().join("top"), "").unwrap();
    let device = run(Command::new("findmnt").args(["-rno", "SOURCE"]).arg(disk.path()));
    let system = System::new();
    for dir in ["user-data", "etc", "scratch"] {
        fs::create_dir_all(system.at(dir)).unwrap();
    }
    let config = parsed(
        "tmpfs = []\nuserdata_options = 'noatime'\n\
         [[bind]]\nfrom = '@home'\nto = '/home'\n\
         [[bind]]\nfrom = 'persistent/scratch'\nto = '/scratch'\noptions = 'noexec'\n\
         [[bind]]\nfrom = '/srv/data'\nto = '/etc'\noptions = 'ro'\n\
         [[overlay]]\nlower = '/opt'\nupper = '/user-data/persistent/opt/upper'\n\
         work = '/user-data/persistent/opt/work'\n",
    );
    let home = Subvolume { name: "@home".to_owned(), ..Subvolume::default() };
    let userdata = UserData {
        device: PathBuf::from(device.trim()),
        kind: "btrfs".to_owned(),
        subvolumes: Subvolumes(vec![home]),
        deleted: Vec::new(),
    };
    let mounted = all(&system, &config, Some(&userdata));
    assert_eq!(mounted, ["user-data", "home", "scratch", "etc", "opt"]);
    assert!(system.at("user-data/top").exists(), "the top of the filesystem");
    let data = options(&system.at("user-data"));
    for word in ["nosuid", "nodev", "noatime", "subvolid=5"] {
        assert!(data.contains(word), "{word} is not in {data}");
    }
    fs::write(system.at("home/kept"), "").unwrap();
    assert!(disk.path().join("@home/kept").exists());
    let show =
        run(Command::new("btrfs").args(["subvolume", "show"]).arg(disk.path().join("@home")));
    assert!(show.contains("Name:"), "{show}");
    let scratch = options(&system.at("scratch"));
    for word in ["nosuid", "nodev", "noexec", "noatime"] {
        assert!(scratch.contains(word), "{word} is not in {scratch}");
    }
    assert!(!options(&system.at("user-data")).contains("noexec"));
    assert_eq!(system.read("etc/x").as_deref(), Some("data"));
    assert!(fs::write(system.at("etc/x"), "").is_err());
    fs::write(system.at("srv/data/x"), "through its own place").unwrap();
    fs::write(system.at("opt/own"), "changed").unwrap();
    assert!(disk.path().join("persistent/opt/upper/own").exists());
}

#[test]
fn users_data_that_cannot_be_mounted_take_nothing_else_with_them() {
    alone();
    let system = System::new();
    fs::create_dir(system.at("user-data")).unwrap();
    let config = mounts("bindmount f=y /srv/data /home\nbindmount f=y /user-data/x /opt\n");
    let userdata = UserData {
        device: "/dev/null".into(),
        kind: "btrfs".to_owned(),
        subvolumes: Subvolumes::default(),
        deleted: Vec::new(),
    };
    assert_eq!(all(&system, &config, Some(&userdata)), ["home"]);
    assert_eq!(system.read("opt/own").as_deref(), Some("image"));
}

#[test]
fn a_file_server_that_is_not_there_is_given_up() {
    alone();
    let system = System::new();
    // It answers no calls, but the kernel says for it that it is there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = parsed(&format!(
        "tmpfs = []\nnfs_timeout = 5\n[[nfs]]\nfrom = 'nobody.invalid:/home'\nto = '/home'\n\
         [[nfs]]\nfrom = '127.0.0.1:/home'\nto = '/opt'\noptions = 'port={port}'\n\
         [[nfs]]\nfrom = '[::1]:/home'\nto = '/none'\n"
    ));
    let before = std::time::Instant::now();
    assert_eq!(all(&system, &config, None), Vec::<String>::new());
    assert!(before.elapsed().as_secs() < 60);
    assert_eq!(system.read("opt/own").as_deref(), Some("image"));
}

#[test]
fn the_log_of_a_start_is_kept_on_bootfs() {
    alone();
    let disk = Disk::new("ext4", 64);
    let device = run(Command::new("findmnt").args(["-rno", "SOURCE"]).arg(disk.path()));
    let log = Log::console();
    // Before BOOTFS is known, there is nowhere to keep it.
    boot_log::keep(Outcome::Failed("too early"), &log);
    let announce = |keep| boot_log::announce(Path::new(device.trim()), "ext4", keep).unwrap();
    announce(2);
    fs::write("/run/gse/boot.json", "{\n  \"version\": \"1\"\n}").unwrap();
    for _ in 0..3 {
        boot_log::keep(Outcome::Started, &log);
    }
    boot_log::keep(Outcome::Failed("no server answered"), &log);
    let folder = disk.path().join("gse/logs");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["00000002-started.log", "00000003-started.log", "00000004-failed.log"]);
    let failed = fs::read_to_string(folder.join(&names[2])).unwrap();
    assert!(failed.starts_with("failed: no server answered\n"), "{failed}");
    assert!(fs::read_dir("/run/gse/logs").unwrap().next().is_none(), "it is unmounted");
    announce(0);
    boot_log::keep(Outcome::Started, &log);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}
