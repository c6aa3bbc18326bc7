//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgGroup, Parser, ValueEnum};

use crate::{
    archive,
    build::{Base, loops::OnFailure},
    initramfs,
};

/// Whether the person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auto {
    /// Questions are asked.
    Yes,
    /// Nothing is asked.
    No,
}

/// Flags of two letters, which users know, and what they stand for.
const SHORT: [(&str, &str); 4] = [
    ("-bm", "--build-minimal"),
    ("-fn", "--fetch-new"),
    ("-ni", "--no-initramfs"),
    ("-nk", "--no-kernel"),
];

/// Arguments with [`SHORT`] ones written out: to clap, `-fn` is `-f -n`.
pub fn written_out(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.into_iter().map(|arg| {
        let long = SHORT.iter().find(|(short, _)| arg == *short).map(|(_, long)| *long);
        long.map_or(arg, OsString::from)
    })
}

/// Builds, signs and publishes the systems and controllers of GSE labs.
#[derive(Debug, Parser)]
#[command(name = "gse", disable_version_flag = true, arg_required_else_help = true)]
#[command(group(ArgGroup::new("action").required(true).multiple(false)))]
pub struct Cli {
    /// Make a key pair: FILE (secret) and FILE.pub
    #[arg(long, value_name = "FILE", group = "action")]
    pub keygen: Option<PathBuf>,
    /// With --keygen: protect the secret key with a password
    #[arg(long, requires = "keygen")]
    pub password: bool,

    /// Make a signed image of a root tree and publish it (parts K and L)
    #[arg(long, value_name = "TREE", group = "action", requires = "version")]
    pub archive: Option<PathBuf>,
    /// The image's version; with --base, the system is published under it (part L)
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
    /// With --base: a kernel that is ready, which goes to /boot
    #[arg(long, value_name = "IMAGE")]
    pub kernel: Option<PathBuf>,
    /// With --base: an initramfs that is ready, which goes to /boot
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
    /// crypto; beside it: server, san, fabric, cloud, rare, watchdog, all). Add some with default,server
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

    /// Serve DIST
    #[arg(long, value_name = "ADDR:PORT", group = "action", num_args = 0..=1, require_equals = true)]
    pub serve: Option<Option<String>>,
    /// With --serve: certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// With --serve: private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Show what differs between two published versions, and what machines fetch for it
    #[arg(long, value_names = ["OLD", "NEW"], num_args = 2, group = "action")]
    pub diff: Option<Vec<String>>,

    /// Check an image, index, release or configuration against a key
    #[arg(long, value_name = "FILE", group = "action")]
    pub verify: Option<PathBuf>,
    /// With --verify and --diff: the public key; with --archive: an older one that signed the last release
    #[arg(long, value_name = "FILE")]
    pub r#pub: Option<PathBuf>,

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn no_two_flags_are_in_each_others_way() {
        Cli::command().debug_assert();
    }
}
