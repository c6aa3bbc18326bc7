//! dracut itself.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::super::{Error, Options, kernel::ModuleDirectory};

/// How much of what dracut said is in an error.
const LAST_LINES: usize = 15;

/// An installed dracut.
#[derive(Debug)]
pub(super) struct Dracut {
    program: PathBuf,
    base: PathBuf,
}

impl Dracut {
    /// The first that is in the folders of a `PATH`. `$dracutbasedir` says where the rest of it is, as for
    /// dracut itself; usually that is `/usr/lib/dracut`.
    pub(super) fn find(path: &OsStr) -> Option<Self> {
        let program = env::split_paths(path)
            .map(|folder| folder.join("dracut"))
            .find(|file| file.is_file())?;
        let base = env::var_os("dracutbasedir")
            .map_or_else(|| PathBuf::from("/usr/lib/dracut"), PathBuf::from);
        base.join("dracut-functions.sh").exists().then_some(Self { program, base })
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Makes the image `made` with the modules of `base`, and makes sure that `modules` are in it.
    pub(super) fn run(
        &self,
        base: &Path,
        made: &Path,
        modules: &[&str],
        options: &Options,
    ) -> Result<(), Error> {
        let directory = ModuleDirectory::find(options.modules.as_deref())?;
        let kernel =
            fs::canonicalize(&directory.path).map_err(Error::io("looking for", &directory.path))?;
        let mut command = Command::new(&self.program);
        command
            .env("dracutbasedir", base)
            .args(["--force", "--no-hostonly", "--no-hostonly-cmdline", "--reproducible"])
            .args(["--add", "gse"])
            .arg("--kmoddir")
            .arg(&kernel);
        let firmware = directory.firmware();
        if firmware != Path::new("/lib/firmware") {
            command.arg("--fwdir").arg(firmware);
        }
        command.args(&options.local.arguments).arg(made).arg(&directory.release);
        self.say(command, base)?;
        let mut list = Command::new(self.program.with_file_name("lsinitrd"));
        list.env("dracutbasedir", base).arg("-m").arg(made);
        let inside = self.say(list, base)?;
        let missing = modules.iter().find(|module| !inside.lines().any(|line| line == **module));
        match missing {
            Some(module) => Err(Error::DracutLeftOut { module: (*module).to_owned() }),
            None => Ok(()),
        }
    }

    /// Runs a command that has to succeed; all that it said.
    fn say(&self, mut command: Command, base: &Path) -> Result<String, Error> {
        let path = base.with_file_name("log");
        let failed = || Error::io("writing", &path);
        let log = fs::File::create(&path).map_err(failed())?;
        let program = PathBuf::from(command.get_program());
        let status = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed())?)
            .stderr(log)
            .status()
            .map_err(Error::io("starting", &program))?;
        let said = fs::read(&path).map_err(Error::io("reading", &path))?;
        let said = String::from_utf8_lossy(&said).into_owned();
        if status.success() {
            return Ok(said);
        }
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        Err(Error::Dracut { program, status, said: last.join("\n") })
    }
}
