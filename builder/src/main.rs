//! `gse`: reads the command line, and calls the command that it names.

use std::process::ExitCode;

use clap::Parser as _;
use gse::{
    build,
    cli::{Cli, written_out},
    commands, initramfs,
};

fn main() -> ExitCode {
    let cli = Cli::parse_from(written_out(std::env::args_os()));
    if let Some(base) = cli.base {
        return finish(build::command(&cli, base));
    }
    finish(run(&cli).map(|()| ExitCode::SUCCESS))
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
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
    if let Some(versions) = &cli.diff {
        return commands::diff(cli, versions);
    }
    if let Some(file) = &cli.verify {
        return commands::verify(cli, file);
    }
    if let Some(config) = &cli.check_config {
        return commands::check_config(config.as_deref());
    }
    if let Some(config) = &cli.publish_config {
        return commands::publish_config(cli, config.as_deref());
    }
    if cli.build_controller.is_some() {
        return initramfs::command(cli);
    }
    if let Some(address) = &cli.serve {
        return commands::serve(cli, address.as_deref());
    }
    // clap asks for one of them.
    anyhow::bail!("nothing to do: see gse --help")
}
