//! Programs that machines need: makers and checkers of filesystems, and a shell for rescue.
//!
//! GSE's build makes static ones, which take half of the room of a distribution's with all their libraries. Where
//! there are none, or none for a filesystem, the host's own go in.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use gse_protocol::config::drives::Filesystem;

use super::{
    Error,
    elf::Program,
    libraries::Libraries,
    tree::{Category, Node, Tree},
};

/// Applets of busybox that a person at a rescue shell types without thinking.
const APPLETS: &[&str] = &[
    "blkid", "cat", "chmod", "clear", "cp", "dd", "df", "dmesg", "du", "echo", "env", "fdisk",
    "find", "free", "grep", "head", "hexdump", "ip", "kill", "less", "ln", "ls", "lsmod", "lspci",
    "lsusb", "mkdir", "more", "mount", "mv", "nslookup", "ping", "ps", "pwd", "reset", "rm",
    "rmdir", "sh", "sleep", "sort", "stat", "stty", "sync", "tail", "tar", "top", "touch", "true",
    "umount", "uname", "vi", "wget", "xargs",
];

/// Programs that make and check a filesystem, links to them, and configuration that they read.
struct Tools {
    package: &'static str,
    programs: &'static [&'static str],
    links: &'static [(&'static str, &'static str)],
    files: &'static [&'static str],
}

fn tools(filesystem: Filesystem) -> Tools {
    match filesystem {
        Filesystem::Btrfs => Tools {
            package: "btrfs-progs",
            programs: &["mkfs.btrfs", "btrfs"],
            links: &[],
            files: &[],
        },
        Filesystem::Ext4 => Tools {
            package: "e2fsprogs",
            programs: &["mke2fs", "e2fsck"],
            links: &[("mkfs.ext4", "mke2fs"), ("fsck.ext4", "e2fsck")],
            files: &["/etc/mke2fs.conf"],
        },
        Filesystem::Xfs => Tools {
            package: "xfsprogs",
            programs: &["mkfs.xfs", "xfs_repair"],
            links: &[],
            files: &[],
        },
    }
}

/// Puts the tools of these filesystems into the image, with their libraries: those in `own`, else the host's.
pub(super) fn add_filesystem_tools(
    tree: &mut Tree,
    filesystems: &[Filesystem],
    own: Option<&Path>,
) -> Result<(), Error> {
    let mut libraries = Libraries::of_host();
    for &filesystem in filesystems {
        let Tools { package, programs, links, files } = tools(filesystem);
        for tool in programs {
            let path = find(tool, own).ok_or(Error::NoTool { tool, filesystem, package })?;
            if let Some(target) = other_name(&path, programs) {
                tree.insert(&format!("sbin/{tool}"), Category::Tools, Node::Link { target });
                continue;
            }
            let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
            let program = Program::parse(&bytes).map_err(|why| Error::damaged(&path, why))?;
            libraries.add(&path, &program)?;
            tree.insert(&format!("sbin/{tool}"), Category::Tools, Node::program(bytes));
        }
        for (link, target) in links {
            let node = Node::Link { target: (*target).to_owned() };
            tree.insert(&format!("sbin/{link}"), Category::Tools, node);
        }
        for file in files {
            // A tool that has its defaults built in does without.
            if let Ok(bytes) = fs::read(file) {
                tree.insert(file.trim_start_matches('/'), Category::Tools, Node::file(bytes));
            }
        }
    }
    for (path, bytes) in libraries.into_files() {
        tree.insert(&path, Category::Tools, Node::program(bytes));
    }
    Ok(())
}

/// Puts in a static busybox for the rescue shell. False: this host has none, and rescue has no shell.
pub(super) fn add_shell(tree: &mut Tree) -> Result<bool, Error> {
    let candidates =
        ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox.static", "/bin/busybox.static"];
    for path in candidates.map(Path::new) {
        let Ok(bytes) = fs::read(path) else { continue };
        if Program::parse(&bytes).is_ok_and(|p| p.is_static()) {
            tree.insert("bin/busybox", Category::Tools, Node::program(bytes));
            for applet in APPLETS {
                let node = Node::Link { target: "busybox".to_owned() };
                tree.insert(&format!("bin/{applet}"), Category::Tools, node);
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// The program of this filesystem that `path` is only another name for.
fn other_name(path: &Path, programs: &[&str]) -> Option<String> {
    let target = fs::read_link(path).ok()?.into_os_string().into_string().ok()?;
    programs.contains(&target.as_str()).then_some(target)
}

/// Finds a program among GSE's own, then where administrators' programs are, and then where the caller's are.
fn find(tool: &str, own: Option<&Path>) -> Option<PathBuf> {
    let fixed = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let own = own.map(Path::to_owned).into_iter();
    let mut places = own.chain(fixed).chain(env::split_paths(&path)).map(|d| d.join(tool));
    places.find(|p| p.is_file())
}
