//! What the administrator says about modules: `modprobe.d` (modprobe.d(5)) and the kernel command line.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use super::{alias::Aliases, normal};
use crate::cmdline::CmdLine;

/// In the order of modprobe: a file hides those of the same name in later directories.
const DIRECTORIES: [&str; 4] =
    ["etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"];

/// All names are with `_`.
#[derive(Default)]
pub(super) struct Rules {
    /// `blacklist`: modules whose own aliases do not count.
    pub(super) blacklist: HashSet<String>,
    /// `module_blacklist=`, and `install NAME /bin/false`: modules that are not loaded at all.
    pub(super) disabled: HashSet<String>,
    /// `options`, joined by spaces, as the kernel takes them.
    pub(super) options: HashMap<String, String>,
    /// `softdep`
    pub(super) softdeps: HashMap<String, SoftDependencies>,
    /// `alias`
    pub(super) aliases: Aliases,
}

/// Names of modules, or aliases, that are loaded with another where there are such.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SoftDependencies {
    pub(super) pre: Vec<String>,
    pub(super) post: Vec<String>,
}

impl Rules {
    /// Takes the lines of a file of `modprobe.d`, or of `modules.softdep`, which has the same syntax.
    pub(super) fn add_file(&mut self, text: &str) {
        for line in text.replace("\\\n", " ").lines() {
            let mut words = line.split_whitespace();
            let (Some(command), Some(name)) = (words.next(), words.next()) else { continue };
            let name = normal(name);
            match command {
                "blacklist" => {
                    self.blacklist.insert(name);
                }
                "options" => words.for_each(|option| self.add_option(&name, option)),
                "alias" => {
                    if let Some(module) = words.next() {
                        self.aliases.add(&name, module);
                    }
                }
                "softdep" => {
                    let known = self.softdeps.entry(name).or_default();
                    let mut list = None;
                    for word in words {
                        match (word, list) {
                            ("pre:" | "post:", _) => list = Some(word),
                            (_, Some("pre:")) => known.pre.push(word.to_owned()),
                            (_, Some(_)) => known.post.push(word.to_owned()),
                            (_, None) => {}
                        }
                    }
                }
                // The customary way to say "never". Other commands need a shell, which is not here.
                "install"
                    if words
                        .next()
                        .is_some_and(|c| c.ends_with("/false") || c.ends_with("/true")) =>
                {
                    self.disabled.insert(name);
                }
                _ => {}
            }
        }
        self.aliases.sort();
    }

    /// Takes `MODULE.PARAMETER=…`, `modprobe.blacklist=…` and `module_blacklist=…`:
    /// <https://docs.kernel.org/admin-guide/kernel-parameters.html>.
    pub(super) fn add_cmdline(&mut self, cmdline: &CmdLine) {
        for (key, value) in cmdline.words() {
            let names = || value.unwrap_or_default().split(',').filter(|n| !n.is_empty());
            match key.split_once('.') {
                None if key == "module_blacklist" => self.disabled.extend(names().map(normal)),
                Some(("modprobe", "blacklist")) => self.blacklist.extend(names().map(normal)),
                // The controller's own words, and dracut's, are no module's.
                None | Some(("gse" | "rd", _)) => {}
                Some((module, parameter)) => {
                    let option = match value {
                        Some(v) if v.contains(char::is_whitespace) => {
                            format!("{parameter}=\"{v}\"")
                        }
                        Some(v) => format!("{parameter}={v}"),
                        None => parameter.to_owned(),
                    };
                    self.add_option(&normal(module), &option);
                }
            }
        }
    }

    fn add_option(&mut self, module: &str, option: &str) {
        let options = self.options.entry(module.to_owned()).or_default();
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str(option);
    }
}

/// The `.conf` files below `root`, in the order of their names.
pub(super) fn files(root: &Path) -> impl Iterator<Item = PathBuf> {
    let mut by_name = BTreeMap::new();
    for directory in DIRECTORIES {
        // A directory that is not there has no files.
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let (Some(name), Some("conf")) =
                (path.file_name(), path.extension().and_then(|e| e.to_str()))
            {
                by_name.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    by_name.into_values()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn modprobe_d_is_read_as_modprobe_reads_it() {
        let mut rules = Rules::default();
        rules.add_file(
            "# a comment\n\
             blacklist pcspkr\n  blacklist snd-pcsp\n\
             options usb-storage quirks=1:2:u \\\n delay_use=0\noptions usb_storage swi_tru_install=3\n\
             softdep mlx5-core pre: a b-c post: d\n\
             install floppy /bin/false\ninstall real /bin/echo hi\n\
             alias eth7 e1000e\nunknown thing\n",
        );
        assert!(rules.blacklist.contains("pcspkr") && rules.blacklist.contains("snd_pcsp"));
        assert_eq!(rules.options["usb_storage"], "quirks=1:2:u delay_use=0 swi_tru_install=3");
        let soft = &rules.softdeps["mlx5_core"];
        assert_eq!((soft.pre.join(" "), soft.post.join(" ")), ("a b-c".into(), "d".into()));
        assert_eq!(rules.disabled, HashSet::from(["floppy".to_owned()]));
        assert_eq!(rules.aliases.lookup("eth7"), ["e1000e"]);
    }

    #[test]
    fn the_kernel_command_line_sets_options_and_blacklists() {
        let mut rules = Rules::default();
        rules.add_cmdline(&CmdLine::parse(
            "usb-storage.delay_use=0 dummy.flag gse.debug rd.neednet=1 video.x=\"a b\" \
             modprobe.blacklist=nouveau,snd-x module_blacklist=evil quiet ip=dhcp",
        ));
        assert_eq!(rules.options["usb_storage"], "delay_use=0");
        assert_eq!(rules.options["dummy"], "flag");
        assert_eq!(rules.options["video"], "x=\"a b\"");
        assert_eq!(rules.options.len(), 3);
        assert!(rules.blacklist.contains("nouveau") && rules.blacklist.contains("snd_x"));
        assert!(rules.disabled.contains("evil"));
    }

    #[test]
    fn a_file_in_etc_hides_the_one_in_usr_lib() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/modprobe.d/b.conf", "x"),
            ("usr/lib/modprobe.d/b.conf", "y"),
            ("usr/lib/modprobe.d/a.conf", "z"),
            ("etc/modprobe.d/README", "no"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let texts: Vec<_> = files(root.path()).map(|f| fs::read_to_string(f).unwrap()).collect();
        assert_eq!(texts, ["z", "x"]);
    }
}
