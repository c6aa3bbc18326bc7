//! The controller's own initramfs: `gse --build-controller`.
//!
//! [`build`] reads top to bottom: the configuration and the kernel are read and checked, a plain tree is
//! made of what goes in, the tree is packed, the image is put in its place.

mod archive;
mod classes;
mod command;
mod compressed;
mod config;
mod elf;
mod error;
mod firmware;
mod kernel;
mod libraries;
mod parallel;
mod report;
mod select;
mod tools;
mod tree;

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

pub use command::command;
pub use error::Error;
pub use report::{Part, Report, Shell};
pub use tree::Category;

use archive::Packed;
use config::Config;
use elf::Program;
use kernel::{Kernel, ModuleDirectory, Name};
use tree::{Node, Tree};

/// What to build.
#[derive(Debug)]
pub struct Options {
    /// The kernel's module directory, or its release; `None` for the running kernel.
    pub modules: Option<PathBuf>,
    /// The `config.d`; `None` for the usual places.
    pub config: Option<PathBuf>,
    /// The controller's static binary.
    pub controller: PathBuf,
    /// Where static makers and checkers of filesystems are, if there are any; the host's are taken otherwise.
    pub tools: Option<PathBuf>,
    /// Driver names and classes; empty for the default classes.
    pub drivers: Vec<String>,
    /// Where the image goes.
    pub output: Output,
    /// Whether it may take the place of an existing one.
    pub force: bool,
    /// Seconds since 1970: the time of every file, and the earliest that the machine's clock may say.
    pub time: u32,
}

/// Where the image goes.
#[derive(Debug)]
pub enum Output {
    /// Below this directory, as `controller/<kernel release>/initramfs.img`.
    Dist(PathBuf),
    /// Exactly there.
    File(PathBuf),
}

impl Output {
    fn path(&self, release: &str) -> PathBuf {
        match self {
            Self::Dist(dist) => dist.join("controller").join(release).join("initramfs.img"),
            Self::File(file) => file.clone(),
        }
    }
}

/// Builds the image.
///
/// # Errors
/// Each says what to do about it. Nothing is left behind, and an existing image stays as it was.
pub fn build(options: &Options) -> Result<Report, Error> {
    let start = Instant::now();
    let directory = ModuleDirectory::find(options.modules.as_deref())?;
    let output = options.output.path(&directory.release);
    if !options.force && output.exists() {
        return Err(Error::Exists { path: output });
    }
    directory.check_config()?;
    let config = Config::load(options.config.as_deref())?;
    let kernel = directory.read()?;
    let chosen =
        select::select(&kernel, &directory.release, &options.drivers, &config.filesystems())?;

    let mut tree = Tree::new();
    let stamp = Node::file(format!("{}\n", options.time).into_bytes());
    tree.insert("etc/gse/stamp", Category::Base, stamp);
    add_config(&mut tree, &config)?;
    tree.insert("init", Category::Controller, Node::program(controller(&options.controller)?));
    tools::add_filesystem_tools(&mut tree, &config.filesystems(), options.tools.as_deref())?;
    let shell = if !config.opens_a_shell() {
        Shell::NoPassword
    } else if tools::add_shell(&mut tree)? {
        Shell::Present
    } else {
        Shell::NoBusybox
    };
    let wanted = add_modules(&mut tree, &directory, &kernel, &chosen)?;
    let place = directory.firmware();
    let firmware_missing = firmware::add(&mut tree, &place, &directory.release, &wanted)?;

    let mut packed = Vec::new();
    if let Some(microcode) = firmware::microcode(&place)? {
        packed.push(archive::plain(&microcode, options.time)?);
    }
    packed.extend(archive::pack(&tree, options.time, archive::Effort::default())?);
    write(&output, &packed, options.force)?;
    let report = Report {
        size: packed.iter().map(|p| p.bytes.len() as u64).sum(),
        path: output,
        kernel: directory.release,
        parts: Report::parts(&packed),
        modules: chosen.iter().map(|name| name.as_str().to_owned()).collect(),
        firmware_missing,
        shell,
        seconds: 0.0,
    };
    Ok(report.took(start.elapsed()))
}

fn add_config(tree: &mut Tree, config: &Config) -> Result<(), Error> {
    for (name, file) in &config.files {
        let node = Node::File { mode: file.mode, bytes: file.bytes.clone() };
        tree.insert(&format!("config.d/{name}"), Category::Config, node);
    }
    if config.needs_certificates() {
        let certificates = Node::file(config::host_certificates()?);
        tree.insert(config::CERTIFICATES, Category::Config, certificates);
    }
    Ok(())
}

/// Reads the controller, and makes sure that a kernel with nothing beside it can run it.
fn controller(path: &Path) -> Result<Vec<u8>, Error> {
    if !path.is_file() {
        return Err(Error::NoController { path: path.to_owned() });
    }
    let bytes = fs::read(path).map_err(Error::io("reading", path))?;
    let refused = |why| Error::NotStatic { path: path.to_owned(), why };
    match Program::parse(&bytes) {
        Ok(program) if program.is_static() => Ok(bytes),
        Ok(program) => {
            let needs = program.loader.into_iter().chain(program.needs).collect::<Vec<_>>();
            Err(refused(format!("it is not a static program, it needs {}", needs.join(", "))))
        }
        Err(why) => Err(refused(why)),
    }
}

/// Adds the modules and their index. The answer is the firmware that they name.
fn add_modules(
    tree: &mut Tree,
    directory: &ModuleDirectory,
    kernel: &Kernel,
    chosen: &BTreeSet<Name>,
) -> Result<BTreeSet<String>, Error> {
    let home = format!("lib/modules/{}", directory.release);
    let paths: Vec<&str> =
        chosen.iter().filter_map(|n| kernel.modules.get(n)).map(|m| m.path.as_str()).collect();
    let read = parallel::map(&paths, |path| {
        let file = directory.path.join(path);
        let bytes = compressed::read(&file)?;
        let firmware = elf::firmware_of(&bytes).map_err(|why| Error::damaged(&file, why))?;
        Ok::<_, Error>((bytes, firmware))
    })?;
    let mut wanted = BTreeSet::new();
    for (path, (bytes, firmware)) in paths.into_iter().zip(read) {
        let path = format!("{home}/{}", select::image_path(path));
        tree.insert(&path, Category::Modules, Node::file(bytes));
        wanted.extend(firmware);
    }
    for (name, text) in select::texts(kernel, chosen) {
        tree.insert(&format!("{home}/{name}"), Category::Modules, Node::file(text.into_bytes()));
    }
    Ok(wanted)
}

/// Puts the image in its place, whole or not at all.
fn write(path: &Path, packed: &[Packed], force: bool) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
    let mut file = tempfile::Builder::new()
        .prefix(".initramfs.")
        .tempfile_in(directory)
        .map_err(Error::io("making a file in", directory))?;
    let failed = || Error::io("writing", path);
    for part in packed {
        file.write_all(&part.bytes).map_err(failed())?;
    }
    // Boot servers read it as somebody else, and there is no secret in it.
    file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    if force {
        file.persist(path).map_err(|e| failed()(e.error))?;
    } else {
        file.persist_noclobber(path).map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
            _ => failed()(e.error),
        })?;
    }
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(Error::io("syncing", directory))
}
