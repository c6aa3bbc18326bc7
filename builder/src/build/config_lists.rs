//! The lists in `config.d/system`, one entry a line: packages, runlevels, files to inject.

use std::path::{Component, Path, PathBuf};

use gse_protocol::config::Error as Mistake;

/// The list of packages, in `config.d`.
pub const PACKAGES: &str = "system/packages";
/// The list of changes of runlevels.
pub const RUNLEVELS: &str = "system/runlevels";
/// The list of files that are copied into the tree.
pub const INJECT: &str = "system/inject";

/// A change of a runlevel: `SERVICE add|del RUNLEVEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runlevel {
    /// In `/etc/init.d`.
    pub service: String,
    /// Whether the service is added, or else taken out.
    pub add: bool,
    /// In `/etc/runlevels`.
    pub runlevel: String,
}

/// A file or directory that is copied into the tree: `rsync|cp LOCAL TARGET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inject {
    /// By what.
    pub tool: Tool,
    /// On this machine; below `config.d/system` where it is relative.
    pub local: PathBuf,
    /// In the tree, relative to its root.
    pub target: PathBuf,
}

/// What copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `rsync --archive`
    Rsync,
    /// `cp --archive`
    Cp,
}

/// Atoms, one a line, as `emerge` takes them. Sets (`@lab`) are allowed.
///
/// # Errors
/// A line with more than an atom, or an option of `emerge`.
pub fn packages(text: &str) -> Result<Vec<String>, Mistake> {
    parse(PACKAGES, text, |words| match words {
        [atom] if !atom.starts_with('-') => Ok((*atom).to_owned()),
        _ => Err("one package a line, as CATEGORY/NAME or with a version as in =CATEGORY/NAME-1.0"
            .to_owned()),
    })
}

/// Changes, in the order in which they are made.
///
/// # Errors
/// A line that is no change.
pub fn runlevels(text: &str) -> Result<Vec<Runlevel>, Mistake> {
    let plain = |name: &str| !name.contains('/') && !name.starts_with(['-', '.']);
    parse(RUNLEVELS, text, |words| match words {
        [service, verb @ ("add" | "del"), runlevel] if plain(service) && plain(runlevel) => {
            Ok(Runlevel {
                service: (*service).to_owned(),
                add: *verb == "add",
                runlevel: (*runlevel).to_owned(),
            })
        }
        _ => Err("a line is SERVICE add RUNLEVEL, or SERVICE del RUNLEVEL".to_owned()),
    })
}

/// What is copied, in the order in which it is.
///
/// # Errors
/// A line that is no copy, or whose target leads out of the tree.
pub fn inject(text: &str) -> Result<Vec<Inject>, Mistake> {
    parse(INJECT, text, |words| {
        let [tool, local, target] = words else {
            return Err("a line is cp LOCAL TARGET, or rsync LOCAL TARGET".to_owned());
        };
        let tool = match *tool {
            "rsync" => Tool::Rsync,
            "cp" => Tool::Cp,
            other => return Err(format!("{other:?} is neither cp nor rsync")),
        };
        let inside = Path::new(target).strip_prefix("/").map_err(|_| {
            format!("the target {target:?} has to be an absolute path in the system that is built")
        })?;
        if inside.components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(format!("the target {target:?} must not have .. in it"));
        }
        Ok(Inject { tool, local: PathBuf::from(local), target: inside.to_owned() })
    })
}

/// Lines without comments and empty ones, split at white space.
fn parse<T>(
    file: &str,
    text: &str,
    parse: impl Fn(&[&str]) -> Result<T, String>,
) -> Result<Vec<T>, Mistake> {
    let mut entries = Vec::new();
    for (before, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let wrong = |message| Mistake { line: before + 1, ..Mistake::new(file, message) };
        entries.push(parse(&words).map_err(wrong)?);
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_one_a_line() {
        let text = "# editors\napp-editors/vim\n\n  =dev-lang/R-4.5 # statistics\n@lab\n";
        assert_eq!(packages(text).unwrap(), ["app-editors/vim", "=dev-lang/R-4.5", "@lab"]);
        for wrong in ["a/b c/d", "--ask", "a/b\n-1 a/b"] {
            let error = packages(wrong).unwrap_err().to_string();
            assert!(error.starts_with("system/packages:"), "{error}");
        }
    }

    #[test]
    fn runlevels_are_changed_in_order() {
        let changes = runlevels("sshd add default\nkeymaps del boot\n").unwrap();
        let change = |service: &str, add, runlevel: &str| Runlevel {
            service: service.to_owned(),
            add,
            runlevel: runlevel.to_owned(),
        };
        assert_eq!(changes, [change("sshd", true, "default"), change("keymaps", false, "boot")]);
        for wrong in
            ["sshd default", "sshd remove default", "../x add boot", "x add a/b", "-a add boot"]
        {
            let error = runlevels(&format!("\n{wrong}")).unwrap_err().to_string();
            assert!(error.starts_with("system/runlevels:2: a line is"), "{error}");
        }
    }

    #[test]
    fn what_is_injected_stays_in_the_tree() {
        let found = inject("cp motd /etc/motd\nrsync /srv/course /usr/share/course\n").unwrap();
        let expected = [
            Inject { tool: Tool::Cp, local: "motd".into(), target: "etc/motd".into() },
            Inject {
                tool: Tool::Rsync,
                local: "/srv/course".into(),
                target: "usr/share/course".into(),
            },
        ];
        assert_eq!(found, expected);
        for wrong in ["cp a", "scp a /b", "cp a b", "cp a /../b", "cp a b c"] {
            assert!(inject(wrong).is_err(), "{wrong}");
        }
    }
}
