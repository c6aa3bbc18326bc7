//! `gse`, the command.

use clap::Parser as _;
use gse::{cli::Cli, serve};

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
    }
    Ok(())
}
