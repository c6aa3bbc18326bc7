//! `gse`: reads the command line, and calls the command that it names.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use gse::{
    build::{self, hook, scripts},
    cli::{self, Asked, Cli},
    commands, initramfs, installation, menu, releases, states,
};

fn main() -> ExitCode {
    match cli::read(std::env::args_os()) {
        Ok(Asked::Run(cli)) => finish(run(&cli)),
        Ok(Asked::Help(topic)) => {
            let _ = writeln!(stdout(), "{}", cli::help(topic).trim_end());
            ExitCode::SUCCESS
        }
        Ok(Asked::Version) => {
            let _ = writeln!(stdout(), "gse {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(mistake) => mistake.exit(),
    }
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gse: {error:#}");
            if is_mistake(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether the command line is wrong, and nothing was done.
fn is_mistake(error: &anyhow::Error) -> bool {
    error.is::<cli::Mistake>() || error.is::<scripts::Error>() || error.is::<hook::Unknown>()
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Some(code) = states::command(cli, std::env::args_os())? {
        return Ok(code);
    }
    if cli.menu {
        return menu::command(cli, std::env::args_os());
    }
    if let Some(base) = cli.base {
        return build::command(cli, base);
    }
    if let Some(code) = installation::command(cli)? {
        return Ok(code);
    }
    done(cli).map(|()| ExitCode::SUCCESS)
}

fn done(cli: &Cli) -> anyhow::Result<()> {
    if let Some(file) = &cli.keygen {
        return commands::keygen(cli, file);
    }
    if let Some(tree) = &cli.archive {
        return commands::archive(cli, tree);
    }
    if let Some(file) = &cli.verify {
        return commands::verify(cli, file);
    }
    if let Some(file) = &cli.sign {
        return commands::sign(cli, file);
    }
    if let Some(config) = &cli.check_config {
        return commands::check_config(cli, config.as_deref());
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
    if let Some(result) = releases::command(cli) {
        return result;
    }
    // The parser asks for one of them.
    anyhow::bail!("nothing to do: see gse --help")
}
