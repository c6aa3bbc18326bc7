//! What the tests of the initramfs stand on: stock kernels, a configuration, and images taken apart.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gse::initramfs::{Options, Output};
use tempfile::TempDir;

/// A public key, as every test configuration has one.
pub(crate) const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// The repository.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs a command that must succeed; its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The module directory of a stock kernel, `cloud` or `generic`.
pub(crate) fn stock_kernel(flavour: &str) -> PathBuf {
    let root = run(Command::new(top().join("scripts/fixture-kernel")).arg(flavour));
    let modules = Path::new(root.trim()).join("lib/modules");
    fs::read_dir(modules).unwrap().next().unwrap().unwrap().path()
}

/// A directory to build in, with the default configuration in `config.d`, trusting [`KEY`].
pub(crate) struct Lab(TempDir);

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        run(Command::new("cp").arg("-r").arg(top().join("config.d")).arg(lab.0.path()));
        let sources = format!("servers = [\"http://gse.example/\"]\nkeys = [\"{KEY}\"]\n");
        lab.configure("sources.toml", &sources);
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of the configuration.
    pub(crate) fn configure(&self, name: &str, text: &str) {
        let path = self.path("config.d").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Drives with one partition of each filesystem that is named.
    pub(crate) fn filesystems(&self, filesystems: &[&str]) {
        let mut text = "[[disk]]\n".to_owned();
        for (label, filesystem) in ["BOOTFS", "SYSFS", "BACKUPFS"].iter().zip(filesystems) {
            text += &format!(
                "[[disk.partition]]\nlabel = \"{label}\"\nsize = \"1G\"\nfilesystem = \"{filesystem}\"\n"
            );
        }
        self.configure("controller/drives.toml", &text);
    }

    /// What builds an image for these modules: the host's static busybox stands in for the controller.
    pub(crate) fn options(&self, modules: &Path, drivers: &[&str]) -> Options {
        Options {
            modules: Some(modules.to_owned()),
            config: Some(self.path("config.d")),
            controller: PathBuf::from("/bin/busybox"),
            tools: None,
            drivers: drivers.iter().map(|d| (*d).to_owned()).collect(),
            output: Output::Dist(self.path("dist.d")),
            force: false,
            time: 1_700_000_000,
        }
    }

    /// A module directory with these modules of the stock kernel and what they depend on, each compressed by
    /// the command that stands for it, indexed by depmod.
    pub(crate) fn small_kernel(&self, modules: &[(&str, Option<&str>)]) -> PathBuf {
        let stock = stock_kernel("generic");
        let release = stock.file_name().unwrap().to_str().unwrap();
        let root = stock.join("../../..").canonicalize().unwrap();
        let home = self.path("root/lib/modules").join(release);
        for (module, compressor) in modules {
            let shown = run(Command::new("modprobe")
                .args(["--show-depends", "-S", release, "-d"])
                .arg(&root)
                .arg(module));
            for line in shown.lines().filter_map(|l| l.strip_prefix("insmod ")) {
                let path = Path::new(line.trim());
                let below = path.strip_prefix(root.join("lib/modules").join(release)).unwrap();
                let target = home.join(below);
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::copy(path, &target).unwrap();
                let name = path.file_stem().unwrap().to_str().unwrap().replace('-', "_");
                if let Some(compressor) = compressor.filter(|_| name == *module) {
                    run(Command::new(compressor).args(["-f", "-q"]).arg(&target));
                    if target.exists() {
                        fs::remove_file(&target).unwrap();
                    }
                }
            }
        }
        for index in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            fs::copy(stock.join(index), home.join(index)).unwrap();
        }
        run(Command::new("depmod").arg("-b").arg(self.path("root")).arg(release));
        home
    }
}

/// The archives of an image, one after the other: plain ones as they are, compressed ones decompressed.
pub(crate) fn archives(image: &[u8]) -> Vec<Vec<u8>> {
    let mut archives = Vec::new();
    let mut rest = image;
    while !rest.is_empty() {
        if let [0, more @ ..] = rest {
            rest = more;
        } else if rest.starts_with(b"070701") {
            let end = b"TRAILER!!!";
            let at = rest.windows(end.len()).position(|w| w == end).unwrap() + end.len() + 1;
            archives.push(rest[..at.next_multiple_of(4)].to_vec());
            rest = &rest[at.next_multiple_of(4).min(rest.len())..];
        } else {
            let mut archive = Vec::new();
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut rest).unwrap();
            decoder.single_frame().read_to_end(&mut archive).unwrap();
            archives.push(archive);
        }
    }
    archives
}

/// Unpacks an image with cpio, as the kernel would: archive after archive into one tree.
pub(crate) fn unpack(image: &Path, directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for archive in archives(&fs::read(image).unwrap()) {
        let mut cpio = Command::new("cpio")
            .args(["-idm", "--quiet"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(cpio.wait().unwrap().success());
    }
}
