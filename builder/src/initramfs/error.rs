//! Why an initramfs cannot be built.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use gse_dracut::{HookError, UnknownCategory};
use gse_protocol::config::drives::Filesystem;

use crate::publish;

/// Why an initramfs cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory that could not be used.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// Such as "reading".
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such module directory.
    #[error("there is no module directory {}; {}", path.display(), known(others))]
    NoModuleDirectory {
        /// What was asked for.
        path: PathBuf,
        /// The kernels that `/lib/modules` has.
        others: Vec<String>,
    },
    /// The module directory was never indexed.
    #[error(
        "{} has no modules.dep: run `depmod -a {release}` (with `-b DIR` where it is not this \
         machine's /lib/modules)", path.display()
    )]
    NotIndexed {
        /// The module directory.
        path: PathBuf,
        /// Its kernel.
        release: String,
    },
    /// `--drivers` names something that is neither a module of this kernel nor a class.
    #[error(
        "--drivers: kernel {release} has no driver {name:?}, and no class is called that{}",
        meant(near)
    )]
    UnknownDriver {
        /// As it was written.
        name: String,
        /// The kernel.
        release: String,
        /// Modules and classes with names like it.
        near: Vec<String>,
    },
    /// No configuration was found.
    #[error(
        "there is no configuration in {}: give one with --config=CONFIG.D", tried.join(" or ")
    )]
    NoConfig {
        /// Where it was looked for.
        tried: Vec<String>,
    },
    /// Mistakes in the configuration.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] publish::Error),
    /// The configuration trusts nobody.
    #[error(
        "{}/sources.toml has no key in `keys`, so the machines could trust no system: make a pair \
         with `gse --keygen=gse.key`, and put the second line of gse.key.pub there", path.display()
    )]
    NoKeys {
        /// The configuration.
        path: PathBuf,
    },
    /// A file for every machine holds what nobody may have.
    #[error(
        "{} looks like {what}: everybody who gets hold of the image could read it. Take it out of \
         what machines receive (sources.toml, controller/)", path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
    /// Something in `config.d` that is no plain file.
    #[error("{} {why}", path.display())]
    OddFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot go in.
        why: &'static str,
    },
    /// There is no controller to put in.
    #[error(
        "there is no controller at {}: build it (`cargo build --profile tiny -p gse-controller`), \
         or name it with --controller=FILE or $GSE_CONTROLLER", path.display()
    )]
    NoController {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The controller would not run.
    #[error("{} cannot be /init: {why}", path.display())]
    NotStatic {
        /// The file.
        path: PathBuf,
        /// What it is instead of a static program.
        why: String,
    },
    /// A program that machines need is not on this host.
    #[error("drives.toml has {filesystem}, which needs {tool}: install {package}")]
    NoTool {
        /// The program.
        tool: &'static str,
        /// What it is for.
        filesystem: Filesystem,
        /// The package that has it.
        package: &'static str,
    },
    /// A library that a program needs is not on this host.
    #[error("{} needs {library}, which is in none of {}: reinstall the package that it belongs to", user.display(), searched.join(", "))]
    NoLibrary {
        /// Its name.
        library: String,
        /// What needs it.
        user: PathBuf,
        /// The directories that were looked at.
        searched: Vec<String>,
    },
    /// A file with broken content.
    #[error("{} is damaged ({why}): reinstall the package that it belongs to", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// HTTPS servers, and no certificates to check them against.
    #[error(
        "sources.toml has an https server, but there are no certificates to check it against: {} \
         is missing. Install ca-certificates, or put a PEM file into config.d and name it in \
         `tls_roots`", path.display()
    )]
    NoCertificates {
        /// Where they should be.
        path: PathBuf,
    },
    /// The kernel cannot read the image.
    #[error(
        "the kernel cannot read a zstd initramfs: {} has no {option}=y. Build the kernel with it",
        config.display()
    )]
    KernelCannot {
        /// Its configuration.
        config: PathBuf,
        /// What it lacks.
        option: &'static str,
    },
    /// The image is there already.
    #[error("{} is there already; --force writes over it", path.display())]
    Exists {
        /// The image.
        path: PathBuf,
    },
    /// `SOURCE_DATE_EPOCH` is no time.
    #[error("SOURCE_DATE_EPOCH={value:?} is no number of seconds since 1970 below 2^32")]
    Epoch {
        /// Its value.
        value: String,
    },
    /// A place that no hook can be at.
    #[error("--hook: {0}")]
    Hook(#[from] HookError),
    /// Hooks and scripts that are not as many as each other.
    #[error("each --hook is for one script, in their order; as given, this is{pairs}")]
    HookPairs {
        /// A line for each, with the script that would be its own.
        pairs: String,
    },
    /// A module that GSE does not have.
    #[error("--without: {0}")]
    Without(#[from] UnknownCategory),
    /// Nothing would be left.
    #[error("--without: gse is the controller itself; --image=own builds no dracut image")]
    WithoutController,
    /// Words that a shell could not split.
    #[error("--dracut_opt={text:?} has a quote that is not closed")]
    DracutWords {
        /// The words.
        text: String,
    },
    /// Several images, and one name.
    #[error("--output names one image: choose it with --image=own or --image=dracut")]
    OneOutput,
    /// dracut was asked for by name.
    #[error(
        "--image: dracut is not installed on this host (Debian: dracut-core; Gentoo: sys-kernel/dracut)"
    )]
    NoDracut,
    /// dracut failed.
    #[error("{} failed ({status}); it said last:\n{said}", program.display())]
    Dracut {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        said: String,
    },
    /// dracut went on without one of the modules.
    #[error(
        "dracut left the module {module} out of its image: the configuration in /etc/dracut.conf and \
         /etc/dracut.conf.d may omit it; `--without={module}` does without it"
    )]
    DracutLeftOut {
        /// The module.
        module: String,
    },
    /// The archive could not be written.
    #[error("packing {what} of the image: {source}")]
    Pack {
        /// The part.
        what: String,
        /// What went wrong.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on what the system answers.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn damaged(path: &Path, why: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.to_string() }
    }
}

fn known(others: &[String]) -> String {
    if others.is_empty() {
        "/lib/modules has none at all: install a kernel".to_owned()
    } else {
        format!("/lib/modules has {}", others.join(", "))
    }
}

fn meant(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) }
}
