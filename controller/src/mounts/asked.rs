//! The kernel options by which administrators of the first GSE say what lies in memory.

use gse_protocol::config::{
    Mounts,
    mounts::{Mode, Tmpfs},
};

use crate::cmdline::CmdLine;

/// The option by which the content comes from an archive, and its name on BOOTFS.
type Archive = Option<(&'static str, &'static str)>;

/// `ctetc=1`: `/etc` lies in memory; `ctetc=0`: it does not. `bootetc=1`: it does, and its content is in an archive on
/// BOOTFS.
const OPTIONS: [(&str, &str, Mode, Archive); 4] = [
    ("ctetc", "/etc", Mode(0o755), Some(("bootetc", "etc.tar.zst"))),
    ("ctvar", "/var", Mode(0o755), Some(("bootvar", "var.tar.zst"))),
    ("ctvar_tmp", "/var/tmp", Mode(0o1777), None),
    ("cttmp", "/tmp", Mode(0o1777), None),
];

/// The mounts with what the kernel command line says about them, in an order in which none covers another.
pub fn asked(mut mounts: Mounts, cmdline: &CmdLine) -> Mounts {
    let all = &mut mounts.tmpfs;
    for (option, path, mode, archive) in OPTIONS {
        let said = cmdline.words().any(|(word, _)| word == option);
        let archive =
            archive.filter(|(boot, _)| cmdline.flag(boot)).map(|(_, name)| name.to_owned());
        if said && !cmdline.flag(option) && archive.is_none() {
            all.retain(|tmpfs| tmpfs.path != path);
        } else if said || archive.is_some() {
            let there = all.iter().position(|tmpfs| tmpfs.path == path);
            let mut tmpfs = there.map(|at| all.remove(at)).unwrap_or_else(|| Tmpfs {
                path: path.to_owned(),
                size: None,
                mode,
                // Who empties a directory for all says so by its mode.
                keep: mode == Mode(0o755),
                archive: None,
            });
            tmpfs.archive = archive.or(tmpfs.archive);
            all.push(tmpfs);
        }
    }
    // `/var` before `/var/log`.
    let mut left = std::mem::take(all);
    let mut depth = 0;
    while !left.is_empty() {
        depth += 1;
        let (now, deeper) = left.into_iter().partition(|t| t.path.matches('/').count() <= depth);
        all.extend::<Vec<_>>(now);
        left = deeper;
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(line: &str) -> Vec<String> {
        let mounts = asked(Mounts::default(), &CmdLine::parse(line));
        let mark = |tmpfs: Tmpfs| {
            let archive = tmpfs.archive.map(|archive| format!(" {archive}")).unwrap_or_default();
            format!("{}{}{archive}", tmpfs.path, if tmpfs.keep { " kept" } else { "" })
        };
        mounts.tmpfs.into_iter().map(mark).collect()
    }

    #[test]
    fn the_old_kernel_options_say_what_lies_in_memory() {
        for (line, expected) in [
            ("quiet", vec!["/etc kept", "/tmp", "/var/log kept"]),
            ("ctetc=1 cttmp=1", vec!["/etc kept", "/tmp", "/var/log kept"]),
            ("cttmp=0", vec!["/etc kept", "/var/log kept"]),
            ("bootetc=1", vec!["/tmp", "/etc kept etc.tar.zst", "/var/log kept"]),
            ("ctvar=1", vec!["/etc kept", "/tmp", "/var kept", "/var/log kept"]),
            ("bootvar=1", vec!["/etc kept", "/tmp", "/var kept var.tar.zst", "/var/log kept"]),
            ("bootvar=0 ctvar_tmp", vec!["/etc kept", "/tmp", "/var/log kept", "/var/tmp"]),
        ] {
            assert_eq!(paths(line), expected, "{line}");
        }
    }
}
