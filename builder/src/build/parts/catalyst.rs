//! Part A with catalyst: the snapshot of the ebuild repository, the stages in their order, and the tarball that they make.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::part_a::{self, Host};
use crate::build::{
    Error,
    catalyst::{
        self, product,
        spec::{Fill, SEED, Spec},
    },
    config::Sync,
    config_tree::System,
    run::Cmd,
    sources::Sha512,
    state::{Download, State, replace},
};

/// The name of the repository, unless `catalyst.conf` has another (`confdefaults` in `catalyst/defaults.py`).
const REPOSITORY: &str = "gentoo";
/// What it says of a snapshot (`catalyst/targets/snapshot.py`).
const WROTE: &str = "Wrote snapshot to ";

/// What the work needs.
pub(in crate::build) struct Work<'a> {
    pub(in crate::build) host: Host<'a>,
    pub(in crate::build) system: &'a System,
}

/// Whether a stage3 of the mirrors is what the first stage is made from.
pub(in crate::build) fn needs_seed(system: &System) -> bool {
    system.catalyst.specs.first().is_some_and(|spec| spec.source() == SEED)
}

impl Work<'_> {
    fn conf(&self) -> PathBuf {
        self.host.places.own.join("catalyst.conf")
    }

    /// Writes `catalyst.conf`. The answer is where catalyst works.
    fn prepare(&self) -> Result<PathBuf, Error> {
        if self.system.catalyst.specs.is_empty() {
            return Err(catalyst::Error::NoSpecs.into());
        }
        let own = &self.host.places.own;
        let catalyst = &self.system.catalyst;
        let conf =
            catalyst.conf.clone().filled(&own.join("store"), catalyst.environment.as_deref());
        let text = conf.to_toml().map_err(catalyst::Error::from)?;
        write(&self.conf(), &text)?;
        Ok(conf.storedir.unwrap_or_default())
    }

    fn catalyst(&self) -> Cmd {
        Cmd::new("catalyst").arg("--configs").path(self.conf())
    }

    fn repository(&self) -> &str {
        self.system.catalyst.conf.repo_name.as_deref().unwrap_or(REPOSITORY)
    }

    /// `gseed`: the stage3 that the first stage is made with.
    pub(in crate::build) fn seed(&self, state: &mut State) -> Result<(), Error> {
        part_a::seed(&self.host, state)?;
        part_a::precompiled(&self.host, state)
    }

    /// `gsnap`: catalyst fetches the repository itself, and checks who signed its last commit.
    pub(in crate::build) fn snapshot(&self, state: &mut State) -> Result<(), Error> {
        let store = self.prepare()?;
        let snapshot = self.catalyst().args(["--snapshot", &self.system.build.catalyst.treeish]);
        let said = self.host.runner.run_and_read(&snapshot)?;
        let prefix = format!("{}-", self.repository());
        let (path, treeish) = wrote(&said, &store.join("snapshots"), &prefix)?;
        self.host.log().note(format!("the ebuild repository is that of commit {treeish}"));
        // The system that is built gets the same one.
        if self.system.build.portage.sync == Sync::Snapshot {
            let file = format!("{prefix}{treeish}.tar");
            let to = self.host.download(&file);
            let unpack = Cmd::new("bash")
                .args(["-c", "exec sqfs2tar --root-becomes repository \"$1\" >\"$2\"", "bash"])
                .path(&path)
                .path(&to);
            self.host.runner.run(&unpack)?;
            let sha512 =
                fs::File::open(&to).and_then(Sha512::read).map_err(Error::io("reading", &to))?;
            state.snapshot = Some(Download { file, sha512 });
        }
        state.treeish = Some(treeish);
        Ok(())
    }

    /// `gcat`: the stages. One that is there, made from the same spec, is not made again.
    pub(in crate::build) fn stages(&self, state: &mut State) -> Result<(), Error> {
        let store = self.prepare()?;
        let fill = self.fill(state)?;
        let specs = self.system.catalyst.specs.iter().map(|spec| spec.fill(&fill));
        let specs = specs.collect::<Result<Vec<_>, _>>().map_err(catalyst::Error::from)?;
        let builds = store.join("builds");
        for (number, spec) in specs.iter().enumerate() {
            if number == 0 {
                self.place_seed(&builds, spec, &fill, state)?;
            }
            let tarball = self.stage(&builds, spec)?;
            let sha512 = product::check(&tarball).map_err(catalyst::Error::from)?;
            let file = tarball.to_string_lossy().into_owned();
            state.product = Some(Download { file, sha512 });
        }
        Ok(())
    }

    fn fill(&self, state: &State) -> Result<Fill, Error> {
        let date = Cmd::new("date").args([
            "--utc",
            &format!("--date=@{}", state.started),
            "+%Y%m%dT%H%M%SZ",
        ]);
        let seed = state.stage3.as_ref().map(|stage3| stage3.path.file().to_owned());
        let stem = seed.as_deref().map(|file| file.trim_end_matches(".tar.xz"));
        Ok(Fill {
            treeish: state.treeish.clone().ok_or(Error::NoTreeish)?,
            timestamp: self.host.runner.read(&date)?.trim().to_owned(),
            seed: format!("gse/{}", stem.unwrap_or("none")),
            folder: self.host.folder.to_string_lossy().into_owned(),
        })
    }

    /// Puts the stage3 that was fetched, and still is what was verified, where catalyst looks for it.
    fn place_seed(
        &self,
        builds: &Path,
        first: &Spec,
        fill: &Fill,
        state: &State,
    ) -> Result<(), Error> {
        let stem = builds.join(first.source());
        if first.source() != fill.seed {
            let found = stem.is_file() || product::find(&stem).is_ok();
            let (spec, path) = (first.target.file(), stem);
            return match found {
                true => Ok(()),
                false => Err(catalyst::Error::NoSeed { spec, path }.into()),
            };
        }
        let verified =
            state.stage3.as_ref().and_then(|s| s.verified.as_ref()).ok_or(Error::NoStage3)?;
        let archive = part_a::unchanged(&self.host, verified)?;
        let mut target = stem.into_os_string();
        target.push(".tar.xz");
        let target = PathBuf::from(target);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
        }
        let copy = Cmd::new("cp").args(["--force", "--reflink=auto", "--no-target-directory"]);
        Ok(self.host.runner.run(&copy.path(archive).path(target))?)
    }

    /// One stage. catalyst goes on where it was, unless it has to begin anew or the spec is another one.
    fn stage(&self, builds: &Path, spec: &Spec) -> Result<PathBuf, Error> {
        let file = self.host.places.own.join(spec.target.file());
        let stem = builds.join(spec.subpath());
        let earlier = fs::read_to_string(&file).ok();
        let same = earlier.as_deref() == Some(spec.text());
        if same
            && !self.host.anew
            && let Ok(tarball) = product::find(&stem)
            && product::check(&tarball).is_ok()
        {
            self.host.log().note(format!("{} is here already, and good", tarball.display()));
            return Ok(tarball);
        }
        product::forget(&stem).map_err(catalyst::Error::from)?;
        write(&file, spec.text())?;
        let mut cmd = self.catalyst().arg("--file").path(&file);
        if self.host.anew || (earlier.is_some() && !same) {
            cmd = cmd.arg("--clear-autoresume");
        }
        self.host.log().note(format!("catalyst builds {}", spec.subpath()));
        self.host.runner.run(&cmd)?;
        Ok(product::find(&stem).map_err(catalyst::Error::from)?)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    replace(path, text.as_bytes()).map_err(Error::io("writing", path))
}

/// The snapshot that catalyst says it wrote, and the commit in its name.
fn wrote(said: &str, folder: &Path, prefix: &str) -> Result<(PathBuf, String), catalyst::Error> {
    let mut paths = said.lines().filter_map(|line| line.split_once(WROTE));
    let path = paths.next_back().map(|(_, path)| PathBuf::from(path.trim()));
    let path = path.ok_or(catalyst::Error::NoSnapshot)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let treeish = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".sqfs"));
    match treeish.filter(|t| !t.is_empty() && t.chars().all(|c| c.is_ascii_alphanumeric())) {
        Some(treeish) if path.parent() == Some(folder) && path.is_file() => {
            Ok((path.clone(), treeish.to_owned()))
        }
        _ => {
            let expected = folder.join(format!("{prefix}….sqfs")).display().to_string();
            Err(catalyst::Error::Snapshot { path, expected })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_in_the_name_of_the_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        let path = folder.path().join(format!("gentoo-{sha1}.sqfs"));
        fs::write(&path, "").unwrap();
        let said = format!(
            "23 Nov 2026 12:00:00 UTC: NOTICE  : Creating gentoo tree snapshot {sha1} from /r.git\n\
             23 Nov 2026 12:00:01 UTC: NOTICE  : Wrote snapshot to {}\n",
            path.display()
        );
        let found = wrote(&said, folder.path(), "gentoo-").unwrap();
        assert_eq!(found, (path, sha1.to_owned()));
        for (said, expected) in [
            ("Wrote nothing", "does not say where"),
            ("Wrote snapshot to /etc/passwd", "which is not"),
            ("Wrote snapshot to gentoo-.sqfs", "which is not"),
        ] {
            let error = wrote(said, folder.path(), "gentoo-").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
