//! What becomes of each file in `config.d/system`, by its name.

use gse_protocol::config::Error as Mistake;

use super::catalyst::spec::Target as StageTarget;

/// Files that administrators know by these names, and where they go.
const KNOWN: [(&str, &str); 13] = [
    ("consolefont", "etc/conf.d/consolefont"),
    ("fstab", "etc/fstab"),
    ("grub", "etc/default/grub"),
    ("hostname", "etc/hostname"),
    ("hosts", "etc/hosts"),
    ("kernel.config", KERNEL_CONFIG),
    ("keymaps", "etc/conf.d/keymaps"),
    ("locale.gen", LOCALES),
    ("net", "etc/conf.d/net"),
    ("resolv.conf", "etc/resolv.conf"),
    ("ssh.pub", "root/.ssh/authorized_keys"),
    ("sshd", "etc/ssh/sshd_config"),
    ("timezone", TIMEZONE),
];
/// The locales that the system has.
pub const LOCALES: &str = "etc/locale.gen";
/// The name of the time zone.
pub const TIMEZONE: &str = "etc/timezone";
/// The configuration of the kernel: a distribution kernel takes what is in that folder into account, and genkernel is told.
pub const KERNEL_CONFIG: &str = "etc/kernel/config.d/gse.config";
/// Where `portage/` goes.
pub const PORTAGE: &str = "etc/portage/";

/// Where `gse/` goes: the repository of the GSE profile.
pub const PROFILES: &str = "var/db/repos/gse/";

/// Folders, and where what is in them goes.
const FOLDERS: [(&str, &str); 3] = [("portage/", PORTAGE), ("gse/", PROFILES), ("files/", "")];
/// For scripts that run when the system has started.
pub(super) const SCRIPTS: &str = "scripts/";
/// Where they go.
const LOCAL: &str = "etc/local.d/";
/// Those that the builder reads itself.
const OWN: [&str; 4] = ["build.toml", "packages", "runlevels", "inject"];
pub(super) const CATALYST_CONF: &str = "catalyst/catalyst.conf";
/// The environment of catalyst's stages.
pub(super) const CATALYSTRC: &str = "catalyst/catalystrc";
/// For keys, and what `inject` names: it is read where it is needed.
const FREE: [&str; 2] = ["keys/", "inject.d/"];

/// What becomes of a file.
pub(super) enum Target {
    /// The builder reads it itself.
    Own,
    /// It goes there.
    At(String),
    Unknown,
}

/// That of the file with this name below `config.d/system`.
pub(super) fn target(name: &str) -> Target {
    if let Some(of_catalyst) = name.strip_prefix("catalyst/") {
        let is_spec = StageTarget::ALL.iter().any(|target| target.file() == of_catalyst);
        let known = is_spec || [CATALYST_CONF, CATALYSTRC].contains(&name);
        return if known { Target::Own } else { Target::Unknown };
    }
    if OWN.contains(&name) || FREE.iter().any(|folder| name.starts_with(folder)) {
        return Target::Own;
    }
    if let Some((_, path)) = KNOWN.iter().find(|(known, _)| *known == name) {
        return Target::At((*path).to_owned());
    }
    for (folder, path) in FOLDERS {
        if let Some(rest) = name.strip_prefix(folder) {
            return Target::At(format!("{path}{rest}"));
        }
    }
    match name.strip_prefix(SCRIPTS) {
        Some(script) if !script.contains('/') => Target::At(script_of_local(script)),
        _ => Target::Unknown,
    }
}

/// Where OpenRC's service `local` looks for a script, as the controller names those of its configuration.
fn script_of_local(name: &str) -> String {
    let stops = name.ends_with(".stop");
    let name = name.trim_end_matches(".start").trim_end_matches(".stop");
    format!("{LOCAL}{name}.{}", if stops { "stop" } else { "start" })
}

/// The names of files in `config.d/system` that have a meaning of their own.
pub fn names() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(KNOWN.iter().map(|(known, _)| *known))
}

/// That nothing is known by this name.
pub(super) fn unknown(name: &str) -> Mistake {
    let mut mistake = Mistake::new(
        &format!("system/{name}"),
        "nothing is known by this name: put it under system/files/ at its path in the system",
    );
    mistake.suggestion = names()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| format!("system/{known}"));
    mistake
}
