//! `gse`, the command.

use std::path::Path;

use clap::Parser as _;
use gse::{cli::Cli, publish, serve};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(address) = &cli.serve {
        let address = match address {
            Some(text) => serve::parse_address(text)?,
            None => serve::DEFAULT_ADDRESS,
        };
        let tls = cli.tls_cert.zip(cli.tls_key);
        let tls = tls.map(|(certificates, key)| serve::Tls { certificates, key });
        let options =
            serve::Options { address, dist: cli.dist, tls, limits: serve::Limits::default() };
        serve::run(&options, &mut std::io::stdout())?;
    } else if let Some(config) = &cli.check_config {
        let config = config.as_deref().unwrap_or(Path::new("config.d"));
        if let Err(error) = publish::check(config) {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    Ok(())
}
