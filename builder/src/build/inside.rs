//! Stage B: the hook points whose work is done inside the new system, by this same program after chroot(2).
//!
//! It reads everything it needs before that: then nothing of gse has to exist in the system, and no link in it can lead
//! back out.

use std::{
    env, fs,
    io::{self, IsTerminal as _, stdout},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::config::bundle::File;
use rustix::process::{chdir, chroot};

use super::{
    Error, Options,
    ask::Asker,
    chain,
    compilers::{Compilers, Distcc},
    config_tree::System,
    hook::Hook,
    log::Log,
    loops::Loops,
    mounts::INSIDE,
    parts::{part_b, part_c, part_d, part_e, part_f, part_g, part_h, part_i, part_j, part_k},
    places::Places,
    run::{Cmd, Runner},
    scripts::{self, Side},
    state::{State, replace},
};

/// Where the user's scripts are shown, below [`INSIDE`].
pub(super) const SCRIPTS: &str = "scripts";

/// Variables that programs inside get from outside.
const PASSED: [&str; 8] = [
    "TERM",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "RSYNC_PROXY",
];
/// Where programs are, unless `/etc/profile.env` says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What work inside needs.
pub(super) struct Inside<'a> {
    pub(super) options: &'a Options,
    pub(super) system: &'a System,
    pub(super) state: &'a State,
    pub(super) compilers: &'a Compilers,
    pub(super) loops: Loops<'a>,
}

/// Does one step in the tree, which becomes the root directory of this process. `step` is a hook point's name, or a place and
/// the name of a script, as in `+gupdate:mine`.
pub(super) fn work(options: &Options, places: &Places, step: &str) -> Result<(), Error> {
    let (place, script) = match step.split_once(':') {
        Some((place, script)) => (place.trim_start_matches(['-', '+']), Some(script)),
        None => (step, None),
    };
    let hook: Hook = place.parse().map_err(scripts::Error::from)?;
    let system = System::load(&options.config)?;
    let state = State::load(&places.state())?.unwrap_or_default();
    let log = Log::open(&places.logs(), options.mode)?.of(hook.name())?;
    chroot(&places.tree)
        .and_then(|()| chdir("/"))
        .map_err(|e| Error::io("entering", &places.tree)(e.into()))?;
    let compilers = Compilers::new(&system.build, &places.local, options.distcc, options.ccache);
    let mut environment = environment();
    let is_there = |name: &str| Path::new("/usr/bin").join(name).is_file();
    environment.extend(compilers.environment(is_there));
    let runner = Runner::with_environment(&log, environment);
    let asker = Asker::new(options.questions);
    let loops = Loops { runner: &runner, asker, on_failure: options.on_failure };
    let mut inside =
        Inside { options, system: &system, state: &state, compilers: &compilers, loops };
    let result = match script {
        Some(script) => inside.script(Side::of(step), hook, script),
        None => inside.hook(hook),
    };
    result.inspect_err(|error| log.record(chain(error)))
}

impl Inside<'_> {
    fn hook(&mut self, hook: Hook) -> Result<(), Error> {
        match hook {
            Hook::PartB => part_b::prepare(self),
            Hook::Update => part_c::update(self),
            Hook::Portage => part_c::configure(self),
            Hook::ApplyNew => part_c::apply_new(self),
            Hook::Rebuild => part_d::rebuild(self),
            Hook::Configure => part_e::configure(self),
            Hook::Install => part_f::install(self),
            Hook::Runlevels => part_g::runlevels(self),
            Hook::Kernel => part_h::kernel(self),
            Hook::Initrd => part_i::initrd(self),
            Hook::PartJ => part_j::depclean(self),
            Hook::Clean => part_k::clean(self),
            other => Err(Error::NotInside(other)),
        }
    }

    /// A script of the user's; a number behind its name tells several runs of it apart.
    fn script(&mut self, side: Side, hook: Hook, script: &str) -> Result<(), Error> {
        let name = script.split_once('#').map_or(script, |(name, _)| name);
        let path = Path::new("/").join(INSIDE).join(SCRIPTS).join(name);
        let cmd = scripts::command(self.options, &path, hook, side).env("GSE_TREE", "/");
        self.run(&cmd, &[])
    }

    /// `emerge`, which never asks by itself.
    pub(super) fn emerge<S: Into<String>>(
        &mut self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<(), Error> {
        // pump starts what includes are gathered by, around everything that compiles.
        let pump = self.compilers.distcc == Distcc::Pump && Path::new("/usr/bin/pump").is_file();
        let emerge = if pump { Cmd::new("pump").arg("emerge") } else { Cmd::new("emerge") };
        Ok(self.loops.emerge(&emerge.arg("--ask=n").args(args))?)
    }

    /// Any other command.
    pub(super) fn run(&mut self, cmd: &Cmd, items: &[String]) -> Result<(), Error> {
        Ok(self.loops.command(cmd, items)?)
    }

    /// A step within a hook point, for the person.
    pub(super) fn note(&self, text: &str) {
        self.loops.runner.log().note(text);
    }

    /// Something that the person should know.
    pub(super) fn warn(&self, text: &str) {
        self.loops.runner.log().warn(text);
    }

    /// Writes files of the configuration to their places in the system.
    pub(super) fn write_files<'f>(
        &mut self,
        files: impl IntoIterator<Item = (&'f String, &'f File)>,
    ) -> Result<(), Error> {
        for (path, file) in files {
            let target = Path::new("/").join(path);
            let items = [format!("{} ({} bytes)", target.display(), file.bytes.len())];
            let what = format!("write {}", target.display());
            self.loops.work(&what, &items, || write(&target, file))?;
        }
        Ok(())
    }
}

/// Folders that are made on the way are everybody's to read; `.ssh` is not.
fn write(target: &Path, file: &File) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
        if folder.file_name().is_some_and(|name| name == ".ssh") {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
    }
    replace(target, &file.bytes)?;
    fs::set_permissions(target, fs::Permissions::from_mode(file.mode))
}

/// The environment of programs inside: as at a login there, and what has to come from outside.
fn environment() -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut found = vec![
        pair("PATH", PATH),
        pair("HOME", "/root"),
        pair("USER", "root"),
        pair("SHELL", "/bin/bash"),
        pair("LC_ALL", "C.UTF-8"),
        pair("EDITOR", "/bin/nano"),
    ];
    if !stdout().is_terminal() {
        found.push(pair("NO_COLOR", "1"));
        found.push(pair("NOCOLOR", "true"));
    }
    found.extend(PASSED.into_iter().filter_map(|name| Some(pair(name, &env::var(name).ok()?))));
    if let Ok(text) = fs::read_to_string(PathBuf::from("/etc/profile.env")) {
        found.extend(profile_env(&text));
    }
    found
}

/// What `env-update` gathered: lines of `export NAME='VALUE'`
/// (<https://wiki.gentoo.org/wiki/Handbook:AMD64/Working/EnvVar>).
pub(super) fn profile_env(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        let value = value.strip_prefix('\'')?.strip_suffix('\'')?;
        Some((name.to_owned(), value.replace(r"'\''", "'")))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_that_of_env_update() {
        let text = "# made by env-update\nexport CONFIG_PROTECT='/etc /usr/share/x'\nexport PATH='/a:/b'\n";
        let expected = [("CONFIG_PROTECT", "/etc /usr/share/x"), ("PATH", "/a:/b")];
        assert_eq!(profile_env(text), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn files_are_written_with_their_modes_and_keys_in_a_folder_of_root_alone() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("root/.ssh/authorized_keys");
        write(&target, &File { mode: 0o600, bytes: b"key".to_vec() }).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&target), mode(target.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read(&target).unwrap(), b"key");
    }
}
