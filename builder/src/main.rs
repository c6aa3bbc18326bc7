//! `gse`: reads the command line, and calls the command that it names.

use std::process::ExitCode;

use clap::Parser as _;
use gse::{cli::Cli, commands};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gse: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Some(file) = &cli.keygen {
        return commands::keygen(cli, file);
    }
    if let Some(tree) = &cli.archive {
        return commands::archive(cli, tree);
    }
    if let Some(file) = &cli.verify {
        return commands::verify(cli, file);
    }
    anyhow::bail!("this gse was built without that action")
}
