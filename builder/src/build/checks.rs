//! Whether this machine can build: looked at before anything is done.

use std::{env, fmt, io, os::unix::fs::PermissionsExt as _, path::Path};

use rustix::{
    fs::statvfs,
    process::{geteuid, getpriority_process},
};

/// What is known of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Whether this process is root's.
    pub root: bool,
    /// Bytes that are free where the build works.
    pub free: u64,
    /// Programs that are needed and not there.
    pub missing: Vec<String>,
    /// Why no mirror can be reached, if none can.
    pub unreachable: Option<String>,
    /// Whether somebody works here over SSH.
    pub ssh: bool,
    /// Whether in tmux or screen.
    pub multiplexer: bool,
    /// The priority of the build, from -20, before everything else, to 19.
    pub nice: i32,
}

/// Something that stands against a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No build.
    Fatal(String),
    /// A build, if need be.
    Warning(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fatal(text) => f.write_str(text),
            Self::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

impl Facts {
    /// Looks at this machine: programs in `PATH`, and room in `folder`.
    ///
    /// # Errors
    /// If the folder cannot be looked at.
    pub fn gather(folder: &Path, tools: &[&str], unreachable: Option<String>) -> io::Result<Self> {
        let space = statvfs(folder)?;
        let missing = tools.iter().filter(|tool| !in_path(tool)).map(|t| (*t).to_owned());
        Ok(Self {
            root: geteuid().is_root(),
            free: space.f_bavail.saturating_mul(space.f_frsize),
            missing: missing.collect(),
            unreachable,
            ssh: env::var_os("SSH_CONNECTION").is_some(),
            multiplexer: ["TMUX", "STY"].iter().any(|name| env::var_os(name).is_some()),
            nice: getpriority_process(None)?,
        })
    }

    /// What stands against a build that asks for this many bytes.
    pub fn judge(&self, space: u64) -> Vec<Finding> {
        let mut found = Vec::new();
        if !self.root {
            let text = "a system can only be built by root, whose files it has: run gse as root";
            found.push(Finding::Fatal(text.to_owned()));
        }
        if !self.missing.is_empty() {
            let names = self.missing.join(", ");
            found
                .push(Finding::Fatal(format!("these programs are missing, install them: {names}")));
        }
        if self.free < space {
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            found.push(Finding::Fatal(format!(
                "{:.1} GiB are free where the build works, and it asks for {:.1} (host.space in build.toml): free some, or \
                 name a larger place with --local=DIR",
                gib(self.free),
                gib(space)
            )));
        }
        if let Some(why) = &self.unreachable {
            found.push(Finding::Warning(format!(
                "there is no connection, so the build gets by with what was fetched before: {why}"
            )));
        }
        if self.ssh && !self.multiplexer {
            found.push(Finding::Warning(
                "this is an SSH connection without tmux or screen: if it breaks, the build ends, and the next gse goes on with it"
                    .to_owned(),
            ));
        }
        if self.nice != 0 {
            let effect = match self.nice {
                ..0 => "before other programs of this machine, a server among them",
                _ => "only while other programs of this machine leave it time",
            };
            found.push(Finding::Warning(format!(
                "with priority {} the build runs {effect}",
                self.nice
            )));
        }
        found
    }
}

fn in_path(tool: &str) -> bool {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| runs(&folder.join(tool)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_is_found() {
        let good = Facts { root: true, free: 10, ..Facts::default() };
        assert_eq!(good.judge(10), []);
        let fatal = |facts: Facts, text: &str| match facts.judge(10).as_slice() {
            [Finding::Fatal(found)] => assert!(found.contains(text), "{found}"),
            other => assert_eq!(other, [], "{text}"),
        };
        fatal(Facts { root: false, ..good.clone() }, "as root");
        fatal(Facts { free: 9, ..good.clone() }, "--local");
        fatal(Facts { missing: vec!["xz".to_owned()], ..good.clone() }, "xz");
    }

    #[test]
    fn ssh_without_a_multiplexer_no_network_and_another_priority_are_only_warnings() {
        let good = Facts { root: true, free: 10, ..Facts::default() };
        let ssh = Facts { ssh: true, ..good.clone() };
        assert!(matches!(ssh.judge(10).as_slice(), [Finding::Warning(_)]));
        assert_eq!(Facts { multiplexer: true, ..ssh }.judge(10), []);
        for (nice, text) in [(-5, "before other"), (10, "leave it time")] {
            match (Facts { nice, ..good.clone() }).judge(10).as_slice() {
                [Finding::Warning(found)] => assert!(found.contains(text), "{found}"),
                other => assert_eq!(other, [], "{nice}"),
            }
        }
        let alone = Facts { unreachable: Some("no route".to_owned()), ..good };
        assert!(matches!(alone.judge(10).as_slice(), [Finding::Warning(_)]));
    }

    #[test]
    fn programs_are_looked_for_in_the_path() {
        let facts = Facts::gather(Path::new("/"), &["sh", "gse-no-such-program"], None).unwrap();
        assert_eq!(facts.missing, ["gse-no-such-program"]);
        assert!(facts.free > 0);
    }
}
