//! Filesystems on loop devices.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A mounted filesystem in a file; gone when dropped.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// `filesystem` is a `mkfs.` program's name with options, such as `ext4 -N 500`.
    pub fn new(filesystem: &str, mib: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let disk = Self { folder };
        let image = disk.folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let mut words = filesystem.split(' ');
        let mkfs = format!("mkfs.{}", words.next().unwrap());
        run(Command::new(mkfs).arg("-q").args(words).arg(&image));
        std::fs::create_dir(disk.path()).unwrap();
        // mount takes a free loop device itself, tries again when another test was quicker, and gives it
        // back when the filesystem is unmounted.
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()));
        disk
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Unmounts it, lets `change` have the file that it is in, and mounts it again.
    pub fn offline(&self, change: impl FnOnce(&Path)) {
        let image = self.folder.path().join("image");
        run(Command::new("umount").arg(self.path()));
        // A loop device that is not quite gone would go on with what it remembers.
        let changed = self.folder.path().join("changed");
        std::fs::copy(&image, &changed).unwrap();
        std::fs::rename(&changed, &image).unwrap();
        change(&image);
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(self.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.path()).status();
        if !done.is_ok_and(|s| s.success()) {
            eprintln!("cannot unmount {:?}", self.path());
        }
    }
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A folder for a tree, on the machine's own filesystem.
pub fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    (folder, tree)
}

/// Whether nothing but mkfs's own directory is there.
pub fn is_untouched(root: &Path) -> bool {
    std::fs::read_dir(root).unwrap().all(|e| e.unwrap().file_name() == "lost+found")
}
