//! `gse-lab`: a blank machine becomes a lab machine, in QEMU, before your eyes.

mod demo;
mod terminal;
mod tree;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// The virtual lab
#[derive(Debug, Parser)]
#[command(name = "gse-lab")]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Install a root tree on a blank machine over the network, and boot it again without one
    Run(demo::Options),
}

impl ValueEnum for Filesystem {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(gse_qemu::Filesystem::Btrfs),
            Self(gse_qemu::Filesystem::Ext4),
            Self(gse_qemu::Filesystem::Xfs),
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

/// A filesystem by its name on the command line.
#[derive(Debug, Clone, Copy)]
struct Filesystem(gse_qemu::Filesystem);

fn main() -> ExitCode {
    let Action::Run(options) = Cli::parse().action;
    match demo::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gse-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
