//! Part C: the ebuild repository, Portage itself, eix; Portage's configuration, profile and locales; what they change.

use std::{fs::File, path::Path};

use crate::build::{
    Error,
    config::Sync,
    config_names::{LOCALES, PORTAGE, PROFILES},
    inside::Inside,
    merges,
    mounts::INSIDE,
    run::Cmd,
    sources::Sha512,
};

/// Where the ebuild repository is (<https://wiki.gentoo.org/wiki//var/db/repos/gentoo>).
pub(super) const REPOSITORY: &str = "/var/db/repos/gentoo";

/// Files and a folder that say from where a repository comes.
const SYNC: &str = "etc/portage/repos.conf";

/// `gupdate`
pub(in crate::build) fn update(inside: &mut Inside<'_>) -> Result<(), Error> {
    match inside.system.build.portage.sync {
        Sync::Snapshot => unpack_snapshot(inside)?,
        Sync::Emerge => {
            // The rest of Portage's configuration may need what is only in the repository.
            let system = inside.system;
            let of_sync = system.files.iter().filter(|(path, _)| path.starts_with(SYNC));
            inside.write_files(of_sync)?;
            inside.run(&Cmd::new("emerge").arg("--sync"), &[])?;
        }
    }
    inside.emerge(["--oneshot", "--update", "sys-apps/portage"])?;
    let helpers: Vec<&str> = inside.compilers.packages().collect();
    if !helpers.is_empty() {
        // For the build, as eix is.
        inside.emerge(["--oneshot", "--noreplace"].into_iter().chain(helpers))?;
    }
    if inside.system.build.packages.eix && !inside.options.minimal {
        // For the build: part J removes it unless the list of packages has it.
        inside.emerge(["--oneshot", "--noreplace", "app-portage/eix"])?;
        inside.run(&Cmd::new("eix-update"), &[])?;
    }
    Ok(())
}

/// The repository gets its name when it is whole.
fn unpack_snapshot(inside: &mut Inside<'_>) -> Result<(), Error> {
    let snapshot = inside.state.snapshot.as_ref().ok_or(Error::NoSnapshot)?;
    let archive = Path::new("/").join(INSIDE).join("downloads").join(&snapshot.file);
    let found =
        File::open(&archive).and_then(Sha512::read).map_err(Error::io("reading", &archive))?;
    if found != snapshot.sha512 {
        return Err(Error::Changed(archive));
    }
    let (new, old) = (format!("{REPOSITORY}.new"), format!("{REPOSITORY}.old"));
    let items = [format!("{} to {REPOSITORY}", snapshot.file)];
    let steps = [
        Cmd::new("rm").args(["--recursive", "--force", &new, &old]),
        Cmd::new("mkdir").args(["--parents", &new]),
        Cmd::new("tar")
            .args(["--extract", "--strip-components=1", "--directory", &new, "--file"])
            .path(&archive),
        Cmd::new("chown").args(["--recursive", "portage:portage", &new]),
    ];
    for step in steps {
        inside.run(&step, &items)?;
    }
    if Path::new(REPOSITORY).exists() {
        inside.run(&Cmd::new("mv").args(["--no-target-directory", REPOSITORY, &old]), &items)?;
    }
    inside.run(&Cmd::new("mv").args(["--no-target-directory", &new, REPOSITORY]), &items)?;
    inside.run(&Cmd::new("rm").args(["--recursive", "--force", &old]), &items)
}

/// Whether a file is Portage's, and so not one of part E.
pub(super) fn is_of_portage(path: &str) -> bool {
    [PORTAGE, PROFILES].iter().any(|folder| path.starts_with(folder))
}

/// `gportage`
pub(in crate::build) fn configure(inside: &mut Inside<'_>) -> Result<(), Error> {
    let system = inside.system;
    inside.write_files(system.files.iter().filter(|(path, _)| is_of_portage(path)))?;
    // The smallest system is that of the stage3.
    let profile = system.build.portage.profile.as_ref().filter(|_| !inside.options.minimal);
    if let Some(profile) = profile {
        let set = Cmd::new("eselect").args(["profile", "set", profile]);
        inside.run(&set, &[format!("profile {profile}")])?;
    }
    if let Some((path, file)) = system.files.get_key_value(LOCALES) {
        inside.write_files([(path, file)])?;
        let wanted = String::from_utf8_lossy(&file.bytes).into_owned();
        inside.run(&Cmd::new("locale-gen"), &[wanted])?;
    }
    if let Some(lang) = &system.build.locale.lang {
        let set = Cmd::new("eselect").args(["locale", "set", lang]);
        inside.run(&set, &[format!("locale {lang}, of those in {LOCALES}")])?;
    }
    inside.run(&Cmd::new("env-update"), &[])
}

/// `gapply-new`
pub(in crate::build) fn apply_new(inside: &mut Inside<'_>) -> Result<(), Error> {
    inside.emerge(["--update", "--deep", "--newuse", "@world"])?;
    merges::settle(inside)
}
