//! Which flags belong together: the sections of `--help` and of the manual.

use clap::ValueEnum;

/// A group of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// `--base`, and what goes with it.
    Build,
    /// `--build-controller`, and what goes with it.
    Controller,
    /// Images, keys and signatures.
    Images,
    /// The controller configuration.
    Config,
    /// `--serve`, and what goes with it.
    Serve,
    /// What is published.
    Releases,
    /// Saved runs.
    States,
    /// This installation of gse.
    Installation,
    /// Flags that many commands have.
    General,
    /// Every flag.
    All,
}

use Topic::{
    All, Build, Config, Controller, General, Images, Installation, Releases, Serve, States,
};

/// Each flag by the name of its field. A test finds those that are missing here.
const FLAGS: [(Topic, &[&str]); 9] = [
    (
        Build,
        &[
            "base",
            "lawful_good",
            "enforce",
            "sdir",
            "do",
            "around",
            "fetch_new",
            "force_new",
            "keep",
            "auto",
            "on_failure",
            "quiet",
            "kernel",
            "initrd",
            "distcc",
            "ccache",
            "mark",
            "no_kernel",
            "no_initramfs",
            "build_minimal",
            "local",
        ],
    ),
    (
        Controller,
        &[
            "build_controller",
            "controller",
            "drivers",
            "output",
            "image",
            "cmdline",
            "modules",
            "hooks",
            "scripts",
            "net",
            "dracut_options",
            "without",
        ],
    ),
    (
        Images,
        &[
            "keygen",
            "password",
            "archive",
            "version",
            "name",
            "level",
            "patches",
            "allow_downgrade",
            "sign",
            "verify",
            "pub",
        ],
    ),
    (Config, &["publish_config", "check_config"]),
    (Serve, &["serve", "tls_cert", "tls_key"]),
    (Releases, &["releases", "diff", "default", "withdraw", "prune"]),
    (States, &["time_state", "time_warp", "edit"]),
    (Installation, &["health_check", "replace_new"]),
    (General, &["menu", "help", "config", "dist", "key", "force", "verbose", "json"]),
];

impl Topic {
    /// Every topic but the one that stands for all.
    pub fn each() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|topic| *topic != All)
    }

    /// The topic of a flag, by the name of its field; the general one of a flag that nobody put anywhere.
    pub fn of(flag: &str) -> Self {
        let found = FLAGS.iter().find(|(_, flags)| flags.contains(&flag));
        found.map_or(General, |(topic, _)| *topic)
    }

    /// As it is written after `--help`.
    pub fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The heading of its section.
    pub fn heading(self) -> &'static str {
        match self {
            Build => "Building a system",
            Controller => "Building the controller",
            Images => "Images, keys and signatures",
            Config => "The configuration of machines",
            Serve => "Serving",
            Releases => "Releases",
            States => "Time warp",
            Installation => "This installation",
            General => "General",
            All => "All flags",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_flag_has_one_topic_and_every_name_here_is_a_flag() {
        let command = Cli::command();
        let mut flags: Vec<&str> = command
            .get_arguments()
            .filter(|a| !a.is_hide_set())
            .map(|a| a.get_id().as_str())
            .collect();
        let mut listed: Vec<&str> = FLAGS.iter().flat_map(|(_, flags)| *flags).copied().collect();
        flags.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, flags, "FLAGS in topics.rs has to list each flag once");
    }
}
