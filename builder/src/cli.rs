//! The command line.

mod help;
mod mistakes;
mod read;
mod short;
mod topics;

use std::path::PathBuf;

use clap::{ArgGroup, Parser, ValueEnum};

use crate::{
    archive,
    build::{
        Base,
        compilers::{Ccache, Distcc},
        loops::OnFailure,
    },
    initramfs, installation, releases, states,
};

pub use self::{
    help::{EXIT_CODES, help},
    mistakes::Mistake,
    read::{Asked, command, read},
    short::{SHORT, written_out},
    topics::Topic,
};

/// Whether the person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auto {
    /// Questions are asked.
    Yes,
    /// Nothing is asked.
    No,
}

/// What becomes of a system that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mark {
    /// Machines take it at their next start.
    Yes,
    /// It lies ready in images/.
    No,
}

/// Builds, signs and publishes the systems and controllers of GSE labs.
#[derive(Debug, Parser)]
#[command(name = "gse", disable_version_flag = true, disable_help_flag = true)]
#[command(group(ArgGroup::new("action").multiple(false)))]
pub struct Cli {
    /// The main menu, as without any flag; other flags are carried into the builds that it starts (-mm)
    #[arg(long, group = "action")]
    pub menu: bool,
    /// What there is to say about a TOPIC: build, controller, images, config, serve, releases, states,
    /// installation, general, all
    #[arg(long, short, value_name = "TOPIC", num_args = 0..=1)]
    pub help: Option<Option<Topic>>,

    /// Make a key pair: FILE (secret) and FILE.pub
    #[arg(long, value_name = "FILE", group = "action")]
    pub keygen: Option<PathBuf>,
    /// With --keygen: protect the secret key with a password
    #[arg(long, requires = "keygen")]
    pub password: bool,

    /// Make a signed image of a root tree and publish it (parts K and L)
    #[arg(long, value_name = "TREE", group = "action", requires = "version")]
    pub archive: Option<PathBuf>,
    /// The image's version; with --base, the system is published under it (part L). Alone: that of gse (-V)
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
    /// The image's name
    #[arg(long, value_name = "NAME", default_value = "gse")]
    pub name: String,
    /// zstd level of the image
    #[arg(long, value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: i32,
    /// From how many of the last images patches are made
    #[arg(long, value_name = "K", default_value_t = archive::PATCHES)]
    pub patches: usize,
    /// Let machines that have a higher serial take this release
    #[arg(long)]
    pub allow_downgrade: bool,

    /// Check, sign and publish the controller configuration
    #[arg(long, value_name = "CONFIG.D", group = "action", num_args = 0..=1, require_equals = true)]
    pub publish_config: Option<Option<PathBuf>>,
    /// Check the configuration, as machines will read it
    #[arg(long, value_name = "CONFIG.D", group = "action", num_args = 0..=1, require_equals = true)]
    pub check_config: Option<Option<PathBuf>>,

    /// Build the controller's initramfs for the kernel whose modules are in MODDIR
    #[arg(long, value_name = "MODDIR", group = "action", num_args = 0..=1, require_equals = true)]
    pub build_controller: Option<Option<PathBuf>>,
    /// Build a system from this base, in parts; goes on with a build that was interrupted
    #[arg(long, short, value_name = "BASE", group = "action")]
    pub base: Option<Base>,
    /// With --base: logs, states, downloads and the system that is being built
    #[arg(long, value_name = "DIR", default_value = "local")]
    pub local: PathBuf,
    /// With --base: leave out these hook points (gparta, gupdate, ..., all); wins over --enforce
    #[arg(long, value_name = "HOOKS")]
    pub lawful_good: Vec<String>,
    /// With --base: do these hook points by force, even where they are done
    #[arg(long, value_name = "HOOKS")]
    pub enforce: Vec<String>,
    /// With --base: the directory of your scripts around hook points
    #[arg(long, value_name = "DIR", requires_all = ["do", "around"])]
    pub sdir: Option<PathBuf>,
    /// With --sdir: names of scripts; the lists between spaces pair with the hook points of -g
    #[arg(long, value_name = "A,B C", requires_all = ["sdir", "around"])]
    pub r#do: Option<String>,
    /// With --sdir: hook points between commas, - before and + after each (-gparta,+gupdate)
    #[arg(short = 'g', value_name = "-HOOK,+HOOK", requires_all = ["sdir", "do"], allow_hyphen_values = true)]
    pub around: Option<String>,
    /// With --base: fetch the stage3 and the snapshot again even where good ones are here (-fn)
    #[arg(long)]
    pub fetch_new: bool,
    /// With --base: begin anew, and ask nothing
    #[arg(long)]
    pub force_new: bool,
    /// With --base: as --force-new, but the earlier system is kept aside
    #[arg(long, short)]
    pub keep: bool,
    /// With --base: whether questions are asked; they are, but with --verbose, where they would be lost
    #[arg(long, value_name = "YES|NO", value_enum)]
    pub auto: Option<Auto>,
    /// With --base: what happens after a failure when nobody is asked
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnFailure::Stop)]
    pub on_failure: OnFailure,
    /// With --base: show every command too
    #[arg(long, short, conflicts_with = "quiet")]
    pub verbose: bool,
    /// With --base: one plain line a step
    #[arg(long, short)]
    pub quiet: bool,
    /// With --base and --version: whether machines take the system next, or it only lies ready (asked, without it)
    #[arg(long, value_name = "YES|NO", value_enum, requires_all = ["base", "version"])]
    pub mark: Option<Mark>,
    /// With --base: compile on the hosts of distcc.hosts in build.toml, with or without pump mode
    #[arg(long, value_name = "MODE", value_enum)]
    pub distcc: Option<Distcc>,
    /// With --base: keep what was compiled for later builds
    #[arg(long, value_name = "ON|NO", value_enum)]
    pub ccache: Option<Ccache>,
    /// With --base: a kernel that is ready, which goes to /boot. With --archive: one whose modules the tree has, and
    /// which machines that start from their own disk get together with it
    #[arg(long, value_name = "IMAGE")]
    pub kernel: Option<PathBuf>,
    /// With --base: an initramfs that is ready, which goes to /boot. With --archive: the controller's, for --kernel
    #[arg(long, alias = "initramfs", value_name = "IMAGE")]
    pub initrd: Option<PathBuf>,
    /// With --base: no kernel, and so no initramfs (-nk)
    #[arg(long, conflicts_with = "kernel")]
    pub no_kernel: bool,
    /// With --base: no initramfs (-ni)
    #[arg(long, conflicts_with = "initrd")]
    pub no_initramfs: bool,
    /// With --base: only essential packages, no kernel, no documentation, no ebuild repository (-bm)
    #[arg(long)]
    pub build_minimal: bool,
    /// Set by gse itself: this process is the build
    #[arg(long, hide = true, requires = "base")]
    pub inside: bool,
    /// Set by gse itself: a step of the build, done in the new system
    #[arg(long, hide = true, requires = "base", value_name = "STEP")]
    pub step: Option<String>,

    /// With --base and --build-controller: the configuration
    #[arg(long, value_name = "CONFIG.D")]
    pub config: Option<PathBuf>,
    /// With --build-controller: the controller's static binary; $GSE_CONTROLLER or the one beside gse otherwise
    #[arg(long, value_name = "FILE")]
    pub controller: Option<PathBuf>,
    /// With --build-controller: drivers by name or class (default: disk, net, usb, input, virtio, hyperv, xen,
    /// crypto, watchdog; beside it: nfs, server, san, fabric, cloud, rare, all). Add some with default,server
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// With --build-controller: write here instead of DIST/controller/<kernel>/initramfs.img
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// With --build-controller: write over an existing image
    #[arg(long)]
    pub force: bool,
    /// What an administrator adds to the images
    #[command(flatten)]
    pub image: initramfs::Flags,

    /// What is published
    #[command(flatten)]
    pub releases: releases::Flags,
    /// Saved runs
    #[command(flatten)]
    pub states: states::Flags,
    /// This installation
    #[command(flatten)]
    pub installation: installation::Flags,

    /// Serve DIST
    #[arg(long, value_name = "ADDR:PORT", group = "action", num_args = 0..=1, require_equals = true)]
    pub serve: Option<Option<String>>,
    /// With --serve: certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// With --serve: private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Check an image, index, release or configuration against a key
    #[arg(long, value_name = "FILE", group = "action")]
    pub verify: Option<PathBuf>,
    /// With --verify: the public key; with --archive: an older one that signed the last release
    #[arg(long, value_name = "FILE")]
    pub r#pub: Option<PathBuf>,

    /// Sign the content of a directory for BOOTFS, such as etc.tar.zst: `archive` in mounts.toml
    #[arg(long, value_name = "FILE", group = "action")]
    pub sign: Option<PathBuf>,

    /// What is published, and what signs it
    #[arg(long, value_name = "DIR", default_value = "dist.d")]
    pub dist: PathBuf,
    /// The secret key that signs
    #[arg(long, value_name = "FILE", default_value = "gse.key")]
    pub key: PathBuf,
    /// Write results as JSON
    #[arg(long)]
    pub json: bool,
}
