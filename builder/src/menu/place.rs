//! Flags beside `-mm` that say where things are: every command of the menu has to look there too.

use std::path::{Path, PathBuf};

use crate::cli::Cli;

/// What such a flag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What is published.
    Dist,
    /// The secret key.
    Key,
    /// The public key.
    Pub,
    /// Logs, states, builds.
    Local,
    /// The configuration.
    Config,
}

impl Place {
    /// The flag.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Dist => "--dist",
            Self::Key => "--key",
            Self::Pub => "--pub",
            Self::Local => "--local",
            Self::Config => "--config",
        }
    }

    /// Those that are not where they usually are.
    pub(super) fn named(cli: &Cli) -> Vec<(Self, PathBuf)> {
        let unusual =
            |path: &PathBuf, usual: &str| Some(path.clone()).filter(|_| path != Path::new(usual));
        let all = [
            (Self::Dist, unusual(&cli.dist, "dist.d")),
            (Self::Key, unusual(&cli.key, "gse.key")),
            (Self::Pub, cli.r#pub.clone()),
            (Self::Local, unusual(&cli.local, "local")),
            (Self::Config, cli.config.clone()),
        ];
        all.into_iter().filter_map(|(place, path)| Some((place, path?))).collect()
    }
}
