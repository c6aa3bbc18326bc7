//! `gse --base`: a system from its sources, in parts.
//!
//! What there is to do is a list of hook points ([`hook`]). From the flags and from what is done already ([`state`]), [`plan`] makes a
//! list of steps, and the driver ([`run_build`]) does one after the other, with the state on disk after each.
//!
//! All of it happens in namespaces of its own ([`namespace`]). Stage A is work on this machine; stage B, the work inside the
//! new system, is this same program after chroot(2) ([`inside`]).

pub mod ask;
pub mod catalyst;
pub mod checks;
mod command;
pub mod compilers;
pub mod config;
pub mod config_lists;
pub mod config_names;
pub mod config_tree;
mod drive;
mod earlier;
mod error;
pub mod hook;
mod inside;
pub mod kernel_files;
pub mod log;
pub mod loops;
mod merges;
pub mod mirrors;
pub mod mounts;
pub mod namespace;
pub mod openpgp;
mod parts;
pub mod places;
pub mod plan;
mod ready;
pub mod run;
pub mod scripts;
pub mod sources;
pub mod state;

use std::path::PathBuf;

use gse_protocol::sign::PublicKey;

pub use command::command;
pub use drive::{Report, run_build};
pub use error::Error;
use error::chain;

use self::{
    compilers::{Ccache, Distcc},
    log::Mode,
    loops::OnFailure,
    plan::Wishes,
};

/// What a system is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Base {
    /// A stage3 that catalyst makes here, from source.
    Catalyst,
    /// The latest stage3 of the Release Engineering team.
    #[default]
    Precomp,
}

impl Base {
    /// After which its folders are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Catalyst => "catalyst",
            Self::Precomp => "precomp",
        }
    }
}

/// What becomes of an earlier build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Earlier {
    /// It is gone on with where it is unfinished; the person is asked.
    #[default]
    Continue,
    /// It is forgotten.
    Forget,
    /// It is forgotten, but its tree is kept aside.
    Keep,
}

/// The image and the release that part L makes.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Of the image.
    pub name: String,
    /// Of the image.
    pub version: String,
    /// Where images are published.
    pub dist: PathBuf,
    /// The file of the secret key that signs.
    pub key: PathBuf,
    /// See [`crate::archive::ArchiveOptions::older_keys`].
    pub older_keys: Vec<PublicKey>,
    /// Of zstd.
    pub level: i32,
    /// See [`crate::archive::ArchiveOptions::allow_downgrade`].
    pub allow_downgrade: bool,
    /// See [`crate::archive::ArchiveOptions::patches`].
    pub patches: usize,
    /// See [`crate::archive::ArchiveOptions::latest`]; the person is asked, without it.
    pub latest: Option<bool>,
    /// Now, in seconds since 1970.
    pub created: u64,
    /// See [`crate::archive::ArchiveOptions::until`].
    pub until: Option<u64>,
}

/// What to build, and how.
#[derive(Debug)]
pub struct Options {
    /// What it is made from.
    pub base: Base,
    /// The configuration.
    pub config: PathBuf,
    /// Logs, states, downloads, the tree.
    pub local: PathBuf,
    /// Which hook points.
    pub wishes: Wishes,
    /// What becomes of an earlier build.
    pub earlier: Earlier,
    /// Whether sources are fetched where good ones are here.
    pub fetch_new: bool,
    /// A kernel that is ready, instead of the configuration's package.
    pub kernel: Option<PathBuf>,
    /// An initramfs that is ready.
    pub initrd: Option<PathBuf>,
    /// The controller's binary, for its initramfs; found where gse is, without it.
    pub controller: Option<PathBuf>,
    /// When the build began, in seconds since 1970.
    pub now: u64,
    /// Whether only what is essential goes into the system.
    pub minimal: bool,
    /// As what machines get it, if they do.
    pub publish: Option<Publish>,
    /// Whether compilation goes to other machines, if not as the configuration says.
    pub distcc: Option<Distcc>,
    /// Whether what was compiled before is kept, if not as the configuration says.
    pub ccache: Option<Ccache>,
    /// How much the person sees.
    pub mode: Mode,
    /// Whether the person is asked.
    pub questions: bool,
    /// What happens after a failure where nobody is asked.
    pub on_failure: OnFailure,
}
