//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Parser};

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
    /// The image's version
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
    /// The image's name
    #[arg(long, value_name = "NAME", default_value = "gse")]
    pub name: String,
    /// zstd level of the image
    #[arg(long, value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: i32,
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
    /// With --build-controller: the configuration that goes into it
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
