//! The controller's initramfs: `gse --build-controller`.
//!
//! [`build`] makes the controller's own, and reads top to bottom: the configuration and the kernel are read
//! and checked, a plain tree is made of what goes in, the tree is packed, the image is put in its place.
//! [`dracut`] makes modules of the same content, and the image that dracut makes of them.

mod archive;
mod classes;
mod command;
mod compressed;
mod config;
pub mod dracut;
mod elf;
mod error;
mod firmware;
mod flags;
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
pub(crate) use command::{find_controller, find_tools};
pub use error::Error;
pub use flags::{Flags, Images, Local};
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
    /// What the administrator adds.
    pub local: Local,
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

/// What goes into any image, read and checked.
#[derive(Debug)]
struct Input {
    directory: ModuleDirectory,
    config: Config,
    kernel: Kernel,
    /// The drivers.
    chosen: BTreeSet<Name>,
}

impl Input {
    fn read(options: &Options) -> Result<Self, Error> {
        let directory = ModuleDirectory::find(options.modules.as_deref())?;
        let config = Config::load(options.config.as_deref())?;
        let kernel = directory.read()?;
        let chosen =
            select::select(&kernel, &directory.release, &options.drivers, &config.filesystems())?;
        Ok(Self { directory, config, kernel, chosen })
    }
}

/// Builds the controller's own image.
///
/// # Errors
/// Each says what to do about it. Nothing is left behind, and an existing image stays as it was.
pub fn build(options: &Options) -> Result<Report, Error> {
    let start = Instant::now();
    let Input { directory, config, kernel, chosen } = Input::read(options)?;
    let output = options.output.path(&directory.release);
    if !options.force && output.exists() {
        return Err(Error::Exists { path: output });
    }
    directory.check_config()?;

    let mut tree = Tree::new();
    for (path, node) in config::nodes(&config, options.time)? {
        tree.insert(&path, Category::Config, node);
    }
    add_local(&mut tree, &options.local);
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

/// What the administrator adds, where the controller looks for it.
fn add_local(tree: &mut Tree, local: &Local) {
    if let Some(options) = &local.cmdline {
        let node = Node::file(format!("{}\n", options.trim()).into_bytes());
        tree.insert("etc/cmdline.d/20-gse.conf", Category::Config, node);
    }
    if let Some(bytes) = &local.modprobe {
        let node = Node::file(bytes.clone());
        tree.insert("etc/modprobe.d/gse-local.conf", Category::Config, node);
    }
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
    let directory = parent(path);
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
    sync_directory(directory)
}

/// The directory that a file is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(Error::io("syncing", directory))
}
