//! The driver: does the steps of a plan, and remembers each.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use indicatif::HumanDuration;
use rustix::fs::syncfs;

use super::{
    Base, Earlier, Error, Options, chain,
    checks::{Facts, Finding},
    compilers::{self, Compilers},
    config::{InitramfsBy, Sync},
    config_tree::System,
    earlier::{Beginning, now},
    hook::{Hook, Place},
    inside,
    log::Log,
    mirrors::Mirrors,
    mounts::{self, Mount, Mounts},
    parts::{
        catalyst, part_a, part_b, part_h, part_i,
        part_l::{self, Boot},
    },
    places::Places,
    plan::{Step, Task, plan, replaces_the_tree},
    ready::ReadyRelease,
    run::{Runner, ended},
    scripts::{self, Side},
    state::State,
};
use crate::lock::FolderLock;

/// Programs of this machine that a build needs.
const TOOLS: [&str; 5] = ["bash", "gpg", "rm", "tar", "xz"];
/// And those that one with catalyst needs: what is not here comes with it.
const TOOLS_OF_CATALYST: [&str; 4] = ["catalyst", "date", "git", "sqfs2tar"];

/// What a build came to.
#[derive(Debug)]
pub struct Report {
    /// Where the system is.
    pub tree: PathBuf,
    /// How many steps were done now.
    pub steps: usize,
    /// How long that took.
    pub took: std::time::Duration,
    /// What became of it in part L, if it was done now.
    pub published: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "built {} in {} steps, {}",
            self.tree.display(),
            self.steps,
            HumanDuration(self.took)
        )?;
        self.published.iter().try_for_each(|published| write!(f, "\n{published}"))
    }
}

/// Builds, from where an earlier run stopped.
///
/// # Errors
/// What stopped it. The state then says where to go on.
pub fn run_build(options: &Options) -> Result<Report, Error> {
    let started = Instant::now();
    let system = System::load(&options.config)?;
    let places = Places::make(&options.local, options.base.name())
        .map_err(Error::io("making folders in", &options.local))?;
    let _lock = FolderLock::take(&places.own)
        .map_err(Error::io("locking", &places.own))?
        .ok_or_else(|| Error::Busy(places.own.clone()))?;
    options
        .wishes
        .scripts
        .write_listing(&places.doscripts)
        .map_err(Error::io("writing", &places.doscripts))?;
    let mut wishes = options.wishes.clone();
    wishes.rebuild |= system.build.portage.rebuild;
    wishes.snapshot = system.build.portage.sync == Sync::Snapshot;
    wishes.seed = catalyst::needs_seed(&system);
    wishes.initrd &= options.initrd.is_some() || system.build.initramfs.by.is_some();
    wishes.kernel &= options.kernel.is_some() || system.build.kernel.package.is_some();
    let beginning = Beginning::find(options, &system, &wishes, &places)?;
    let steps = plan(&wishes, &beginning.state);
    // A key that cannot be read, a password that nobody types, a mistake: it comes to light before hours of work.
    let is_ahead = |hook| steps.iter().any(|s| s.hook == hook && !matches!(s.task, Task::Pass(_)));
    if is_ahead(Hook::Initrd) && by_controller(options, &system) {
        part_i::check_controller(options)?;
    }
    let release = options.publish.as_ref().filter(|_| is_ahead(Hook::Mark));
    let release = release.map(|publish| ReadyRelease::ask(options, publish)).transpose()?;
    beginning.settle(options, &places)?;
    let log = Log::open(&places.logs(), options.mode)?;
    beginning.note.iter().for_each(|note| log.note(note));
    let compilers = Compilers::new(&system.build, &places.local, options.distcc, options.ccache);
    let mut driver = Driver {
        options,
        system: &system,
        places: &places,
        state: beginning.state,
        mounts: None,
        release,
        published: None,
        compilers,
    };
    let mut done = 0;
    for step in &steps {
        if matches!(step.task, Task::Pass(_)) {
            log.note(step);
            continue;
        }
        driver.step(&log, step).map_err(|source| Error::Step {
            step: step.id(),
            log: log.file_of(step.hook.name()),
            cause: chain(&source),
        })?;
        done += 1;
    }
    driver.state.finished = true;
    driver.state.save(&places.state())?;
    let tree = places.tree.clone();
    Ok(Report { tree, steps: done, took: started.elapsed(), published: driver.published })
}

/// Whether the initramfs is the controller's, and made here.
fn by_controller(options: &Options, system: &System) -> bool {
    let made = options.wishes.initrd && options.initrd.is_none();
    made && names_controller(system)
}

fn names_controller(system: &System) -> bool {
    system.build.initramfs.by == Some(InitramfsBy::Controller)
}

struct Driver<'a> {
    options: &'a Options,
    system: &'a System,
    places: &'a Places,
    state: State,
    /// In the tree, as soon as something is done inside.
    mounts: Option<Mounts>,
    /// If the system is published.
    release: Option<ReadyRelease<'a>>,
    published: Option<String>,
    compilers: Compilers,
}

impl Driver<'_> {
    fn step(&mut self, log: &Log, step: &Step) -> Result<(), Error> {
        let (id, file) = (step.id(), self.places.state());
        if replaces_the_tree(step.hook) && matches!(step.task, Task::Work { .. }) {
            self.state.forget_from(step.hook);
            self.mounts = None;
        }
        self.state.finished = false;
        self.state.begin(&id);
        self.state.save(&file)?;
        match &step.task {
            Task::Work { .. } => log.step(step.hook.does()),
            Task::Script { .. } | Task::Pass(_) => log.step(&id),
        }
        let own = log.of(step.hook.name())?;
        let result = match &step.task {
            Task::Work { force } => self.work(&own, step.hook, *force),
            Task::Script { name, .. } => self.script(&own, step, name),
            Task::Pass(_) => Ok(()),
        };
        if let Err(error) = result {
            own.record(chain(&error));
            return Err(error);
        }
        // What the state says is done has to be on disk before it says so.
        let folder = fs::File::open(&self.places.local);
        folder
            .and_then(|folder| syncfs(folder).map_err(Into::into))
            .map_err(Error::io("flushing", &self.places.local))?;
        self.state.record(&id, now());
        Ok(self.state.save(&file)?)
    }

    fn work(&mut self, log: &Log, hook: Hook, force: bool) -> Result<(), Error> {
        if hook == Hook::Initrd && by_controller(self.options, self.system) {
            log.note(part_i::controller(self.options, &self.places.tree)?);
            return Ok(());
        }
        if hook.place() == Some(Place::Chroot) {
            return self.enter(log, hook.name());
        }
        let runner = Runner::new(log);
        let host = part_a::Host {
            sources: &self.system.build.sources,
            folder: &self.system.folder,
            places: self.places,
            runner: &runner,
            anew: force || self.options.fetch_new,
        };
        if self.options.base == Base::Catalyst && hook.part() == Some(Hook::PartA) {
            let work = catalyst::Work { host, system: self.system };
            return match hook {
                Hook::Seed => work.seed(&mut self.state),
                Hook::Snapshot => work.snapshot(&mut self.state),
                Hook::Catalyst => work.stages(&mut self.state),
                _ => part_a::extract(&work.host, &self.state, self.keeps_earlier()),
            };
        }
        match hook {
            Hook::Fundamentals => self.check(log),
            Hook::Seed => part_a::seed(&host, &mut self.state),
            Hook::Snapshot => part_a::snapshot(&host, &mut self.state),
            Hook::Precompiled => part_a::precompiled(&host, &mut self.state),
            Hook::Extract => part_a::extract(&host, &self.state, self.keeps_earlier()),
            Hook::Mark => self.publish(log),
            // Parts have no work beside that of the hook points inside them.
            _ => Ok(()),
        }
    }

    fn keeps_earlier(&self) -> bool {
        self.options.earlier == Earlier::Keep
    }

    /// `gmark`. What is mounted in the tree is no part of it.
    fn publish(&mut self, log: &Log) -> Result<(), Error> {
        self.mounts = None;
        let Some(ReadyRelease { publish, key, latest }) = &self.release else { return Ok(()) };
        let boot = self.boot(log)?;
        if let Some(boot) = &boot {
            let folder = boot.publish(&publish.dist)?;
            log.note(format!("kernel and initramfs for boot loaders are in {}", folder.display()));
        }
        let tree = &self.places.tree;
        let summary = part_l::mark(publish, key, tree, boot.as_ref(), *latest, &log.progress())?;
        let (name, version) = (&summary.name, &summary.version);
        let (serial, path) = (summary.serial, summary.path.display());
        let published = if *latest {
            format!(
                "published {name} {version} as serial {serial} in {path}: machines take it at their next start, as their \
                 update.policy says"
            )
        } else {
            format!("{name} {version} lies ready in {path}, and no machine takes it")
        };
        log.record(&published);
        self.published = Some(published);
        Ok(())
    }

    /// What machines start the system with, where the configuration says that it is the controller.
    fn boot(&self, log: &Log) -> Result<Option<Boot>, Error> {
        if !self.options.wishes.initrd || !names_controller(self.system) {
            return Ok(None);
        }
        let boot = Boot::find(self.options, &self.places.tree)?;
        if boot.is_none() {
            if self.state.is_done(Hook::Initrd.name()) {
                return Err(Error::NoBoot(self.places.tree.clone()));
            }
            log.note("there is neither kernel nor initramfs to go with the release: parts H and I were left out");
        }
        Ok(boot)
    }

    /// `gfund`
    fn check(&self, log: &Log) -> Result<(), Error> {
        let mirrors = Mirrors::new(&self.system.build.sources.mirrors)?;
        let unreachable = mirrors.check_connection().err().map(|e| e.to_string());
        let mut tools = TOOLS.to_vec();
        if self.options.base == Base::Catalyst {
            tools.extend(TOOLS_OF_CATALYST);
        }
        let facts = Facts::gather(&self.places.local, &tools, unreachable)
            .map_err(Error::io("looking at", &self.places.local))?;
        let space = self.system.build.host.space.saturating_mul(1 << 30);
        let (fatal, warnings): (Vec<_>, Vec<_>) = facts
            .judge(space)
            .into_iter()
            .chain(self.compilers.check())
            .partition(|f| matches!(f, Finding::Fatal(_)));
        warnings.iter().for_each(|warning| log.warn(warning));
        if fatal.is_empty() { Ok(()) } else { Err(Error::Checks(fatal)) }
    }

    fn script(&mut self, log: &Log, step: &Step, name: &str) -> Result<(), Error> {
        if step.hook.place_of_scripts() == Place::Chroot {
            return self.enter(log, &step.id());
        }
        let script = self.options.wishes.scripts.folder.join(name);
        let cmd = scripts::command(self.options, &script, step.hook, Side::of(&step.id()))
            .env("GSE_CONFIG", self.options.config.to_string_lossy())
            .env("GSE_LOCAL", self.places.local.to_string_lossy())
            .env("GSE_TREE", self.places.tree.to_string_lossy());
        Ok(Runner::new(log).run(&cmd)?)
    }

    /// Does a step inside the tree: this same program, started again with the same arguments.
    fn enter(&mut self, log: &Log, step: &str) -> Result<(), Error> {
        if self.mounts.is_none() {
            if !self.places.tree.is_dir() {
                return Err(Error::NoTree(self.places.tree.clone()));
            }
            let mut shown = part_b::shown(self.system, &self.places.downloads);
            let scripts = &self.options.wishes.scripts;
            if !scripts.at.is_empty() {
                shown.push((scripts.folder.clone(), inside::SCRIPTS.to_owned()));
            }
            for (file, name) in
                [(&self.options.kernel, part_h::SHOWN), (&self.options.initrd, part_i::SHOWN)]
            {
                shown.extend(file.iter().map(|file| (file.clone(), name.to_owned())));
            }
            let mut wanted = mounts::wanted(&shown);
            if let Some(cache) = self.compilers.ccache.clone() {
                fs::create_dir_all(&cache).map_err(Error::io("making", &cache))?;
                let target = Path::new(mounts::INSIDE).join(compilers::SHOWN);
                wanted.push(Mount::Share { source: cache, target });
            }
            self.mounts = Some(Mounts::new(&self.places.tree, &wanted)?);
        }
        let arguments = env::args_os().skip(1).filter(|arg| arg != super::command::INSIDE);
        let status = Command::new("/proc/self/exe")
            .args(arguments)
            .arg(format!("{}={step}", super::command::STEP))
            .status()
            .map_err(Error::io("starting gse inside", &self.places.tree))?;
        if status.success() {
            return Ok(());
        }
        log.record(format!("the work inside {}", ended(status)));
        Err(Error::Inside(ended(status)))
    }
}
