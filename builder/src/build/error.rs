//! Why a build stops.

use std::{
    io, iter,
    path::{Path, PathBuf},
};

use crate::{archive, initramfs, keys, publish};

use super::{
    catalyst, checks::Finding, config_tree, hook::Hook, kernel_files, log, loops::Stopped, mirrors,
    mounts, namespace, openpgp, run::Failed, scripts, state,
};

/// A build stops here; what is done stays done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// At a step.
    #[error(
        "{cause}\nthe build stopped at {step}; its log is {log}. The same gse goes on from there (without --force-new and --keep)"
    )]
    Step {
        /// See [`super::plan::Step::id`].
        step: String,
        /// Of the hook point.
        log: PathBuf,
        /// Why, whole: it may be long, and what to do comes after it.
        cause: String,
    },
    /// The work inside the new system failed, and has said why.
    #[error("the work inside the new system {0}, as it says above")]
    Inside(String),
    /// Another build has the same folders.
    #[error("another gse is building in {0}: wait for it, or build elsewhere with --local=DIR")]
    Busy(PathBuf),
    /// This machine cannot build.
    #[error("this machine cannot build:\n{}", findings(.0))]
    Checks(Vec<Finding>),
    /// There is no tree to work in.
    #[error(
        "there is no system in {0}: --lawful-good left out what makes it. Let gextr run, or have a script make one"
    )]
    NoTree(PathBuf),
    /// The system was built with a kernel and the controller's initramfs, and they are not there.
    #[error(
        "the kernel of {0} or its initramfs is gone since part I made it: --enforce=gparth,gparti makes them again"
    )]
    NoBoot(PathBuf),
    /// Nothing says which stage3.
    #[error(
        "no stage3 was chosen and verified: let gseed and gprec run, or do what gextr does in a script"
    )]
    NoStage3,
    /// Nothing says which snapshot.
    #[error(
        "no portage snapshot was verified: let gsnap run, or set portage.sync = \"emerge\" in build.toml"
    )]
    NoSnapshot,
    /// Nothing says which commit of the ebuild repository.
    #[error("catalyst made no snapshot of the ebuild repository: let gsnap run")]
    NoTreeish,
    /// A file is no longer the one that was verified.
    #[error("{0} was changed since it was verified: --enforce=gparta fetches it again")]
    Changed(PathBuf),
    /// Something is mounted where a tree is to be removed.
    #[error("{0} is mounted below a tree that has to be removed: unmount it first")]
    Mounted(PathBuf),
    /// Asked for something that is not done inside.
    #[error("{0} is not done inside the new system")]
    NotInside(Hook),
    /// A file.
    #[error("{doing} {path}")]
    Io {
        /// A gerund.
        doing: &'static str,
        /// Of the file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config_tree::Error),
    /// The state.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The logs.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// Scripts of the user's.
    #[error(transparent)]
    Scripts(#[from] scripts::Error),
    /// catalyst.
    #[error(transparent)]
    Catalyst(#[from] catalyst::Error),
    /// Fetching.
    #[error(transparent)]
    Mirrors(#[from] mirrors::Error),
    /// Signatures.
    #[error(transparent)]
    OpenPgp(#[from] openpgp::Error),
    /// A command on this machine.
    #[error(transparent)]
    Command(#[from] Failed),
    /// Work inside that nobody wants to try again.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Mounting.
    #[error(transparent)]
    Mount(#[from] mounts::Error),
    /// Publishing.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel_files::Error),
    /// The configuration of the controller.
    #[error(transparent)]
    Publish(#[from] publish::Error),
    /// The controller's initramfs.
    #[error(transparent)]
    Initramfs(#[from] initramfs::Error),
    /// The key that signs.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// Shutting the build in.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
}

/// An error with all its causes, in one text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn findings(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("  {f}")).collect::<Vec<_>>().join("\n")
}

impl Error {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
