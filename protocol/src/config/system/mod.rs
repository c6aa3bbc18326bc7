//! `controller/system/`: what the controller puts into the installed system.
//!
//! A few files have names of their own, as administrators know them: see the modules of this folder. Any other file lies under `files/` at its path in the system. A file without a line that
//! counts, which has nothing but comments, is as good as none. What lies in `rooms/ROOM/` takes the
//! place of the file of the same name on the machines of that room.

mod formats;
pub mod links;
pub mod owners;
pub mod runlevels;
mod text;

use std::borrow::Cow;

use super::{
    Error, Machines,
    bundle::{File, Files},
    machines::{Identity, hostname},
    near, toml_text,
};
use formats::{PLAIN, Plain};
use links::Links;
use owners::Owner;
use runlevels::Rule;
use text::lines;

/// The folder of `config.d`, with which the names of its files begin in messages.
const FOLDER: &str = "controller/system/";
const ANY: &str = "files/";
const ROOMS: &str = "rooms/";
const KEYS: &str = "ssh/";
const SCRIPTS: &str = "scripts/";
/// A file of a machine with a line that begins so is its own: the controller leaves it alone.
pub const FILE_MASK: &str = "#CF_MASK=ON";
/// A directory of a machine with a file of this name is its own, with all that is below it.
pub const FOLDER_MASK: &str = ".CD_MASK";
/// Where the list of locales is in a system.
pub const LOCALE_GEN: &str = "etc/locale.gen";

/// What the configuration wants of one machine's system. Who owns what, and what services there are, only
/// the image knows: that is resolved there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Files, each at a path of its own.
    pub files: Vec<Wanted>,
    /// Users, and the public keys with which each may log in, as in `authorized_keys`.
    pub keys: Vec<(String, Vec<u8>)>,
    /// Programs to run at the system's start, by name.
    pub scripts: Vec<(String, Vec<u8>)>,
    /// The name of the time zone.
    pub timezone: Option<String>,
    /// Services that start, or do not.
    pub runlevels: Vec<Rule>,
    /// Symbolic links, and mounts in the short form.
    pub links: Links,
}

/// A file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Relative to the system's root.
    pub path: String,
    /// Permissions and content.
    pub file: File,
    /// Whose it is.
    pub owner: Owner,
}

impl Desired {
    /// What this machine's system is to have.
    ///
    /// # Errors
    /// The first mistake in a file.
    pub fn new(system: &Files, machines: &Machines, machine: &Identity) -> Result<Self, Error> {
        let own = machines.room(machine).map(|room| format!("{ROOMS}{room}/"));
        let mut out = Self::default();
        let mut owners = Vec::new();
        let mut pattern = None;
        for (path, file) in system {
            let (room, name) = without_room(path);
            let in_place =
                own.as_ref().is_some_and(|own| system.contains_key(&format!("{own}{name}")));
            if (room.is_empty() && in_place) || (!room.is_empty() && own.as_deref() != Some(room)) {
                continue;
            }
            let file_name = format!("{FOLDER}{path}");
            let text = || toml_text(&file_name, &file.bytes);
            match Name::of(name) {
                Some(Name::Any(target)) => out.add(target, file.mode, file.bytes.clone()),
                Some(Name::Hostname) => {
                    pattern = lines(&text()?).next().map(|(_, line)| line.to_owned());
                }
                Some(Name::Plain(plain)) => {
                    if lines(&text()?).next().is_some() {
                        out.add(plain.target, plain.mode, file.bytes.clone());
                    }
                }
                Some(Name::Timezone) => {
                    out.timezone = lines(&text()?).next().map(|(_, zone)| zone.to_owned());
                }
                Some(Name::Runlevels) => out.runlevels = runlevels::parse(&file_name, &text()?)?,
                Some(Name::Links) => out.links = links::parse(&file_name, &text()?)?,
                Some(Name::Owners) => owners = owners::parse(&file_name, &text()?)?,
                Some(Name::Keys(user)) => {
                    if lines(&text()?).next().is_some() {
                        out.keys.push((user.to_owned(), file.bytes.clone()));
                    }
                }
                Some(Name::Script(name)) => {
                    if lines(&text()?).next().is_some() {
                        out.scripts.push((name.to_owned(), file.bytes.clone()));
                    }
                }
                None => return Err(unknown(path)),
            }
        }
        if let Some(name) = machines.hostname(machine).or_else(|| {
            let room = machines.room(machine);
            hostname(pattern.as_deref()?, machine, room.as_deref())
        }) {
            out.add("etc/hostname", 0o644, format!("{name}\n").into_bytes());
        }
        if let Some(zone) = &out.timezone {
            let text = format!("{zone}\n").into_bytes();
            out.add("etc/timezone", 0o644, text);
        }
        for rule in owners {
            if let Some(wanted) = out.files.iter_mut().find(|wanted| wanted.path == rule.path) {
                wanted.owner = rule.owner;
                wanted.file.mode = rule.mode.unwrap_or(wanted.file.mode);
            }
        }
        Ok(out)
    }

    /// The file that is to be at a path.
    pub fn file(&self, path: &str) -> Option<&Wanted> {
        self.files.iter().find(|wanted| wanted.path == path)
    }

    fn add(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.files.retain(|wanted| wanted.path != path);
        let (path, owner) = (path.to_owned(), Owner::default());
        self.files.push(Wanted { path, file: File { mode, bytes }, owner });
    }
}

/// What a file in `controller/system/` is, by its name there.
enum Name<'n> {
    Any(&'n str),
    Plain(&'static Plain),
    Hostname,
    Timezone,
    Runlevels,
    Links,
    Owners,
    Keys(&'n str),
    Script(&'n str),
}

/// The names that stand for themselves; with those of [`PLAIN`] they are all.
const NAMES: [&str; 6] = ["hostname", "timezone", "runlevels", "links", "owners", "ssh.pub"];

impl<'n> Name<'n> {
    fn of(name: &'n str) -> Option<Self> {
        let plain_name = |name: &&str| !name.is_empty() && !name.contains('/');
        Some(match name {
            "hostname" => Self::Hostname,
            "timezone" => Self::Timezone,
            "runlevels" => Self::Runlevels,
            "links" => Self::Links,
            "owners" => Self::Owners,
            "ssh.pub" => Self::Keys("root"),
            _ => {
                if let Some(plain) = PLAIN.iter().find(|plain| plain.name == name) {
                    return Some(Self::Plain(plain));
                }
                if let Some(path) = name.strip_prefix(ANY).filter(|path| !path.is_empty()) {
                    return Some(Self::Any(path));
                }
                if let Some(script) = name.strip_prefix(SCRIPTS).filter(plain_name) {
                    return Some(Self::Script(script));
                }
                let user = name.strip_prefix(KEYS)?.strip_suffix(".pub").filter(plain_name)?;
                Self::Keys(user)
            }
        })
    }
}

/// The names of files in `controller/system/` that have a meaning of their own.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(PLAIN.iter().map(|plain| plain.name))
}

/// All mistakes in the files below `controller/system/`.
pub fn mistakes(system: &Files) -> Vec<Error> {
    let mut out = Vec::new();
    for (path, file) in system {
        let name = without_room(path).1;
        match Name::of(name) {
            Some(kind) => check(&kind, &format!("{FOLDER}{path}"), file, system, &mut out),
            None => out.push(unknown(path)),
        }
    }
    out
}

fn check(kind: &Name<'_>, path: &str, file: &File, system: &Files, out: &mut Vec<Error>) {
    if let Name::Any(target) = kind {
        let masks = String::from_utf8_lossy(&file.bytes).lines().any(is_mask);
        if masks || target.rsplit('/').next() == Some(FOLDER_MASK) {
            let message = "a mask is for a machine to have: published, no machine would ever take a change of this again";
            out.push(Error::new(path, message));
        }
        return;
    }
    let text: Cow<'_, str> = match toml_text(path, &file.bytes) {
        Ok(text) => text,
        Err(e) => return out.push(e),
    };
    let found = match kind {
        Name::Any(_) | Name::Script(_) => Vec::new(),
        Name::Plain(plain) => text::check(path, &text, &plain.line),
        Name::Hostname => text::check_one(path, &text, &formats::hostname),
        Name::Timezone => text::check_one(path, &text, &formats::timezone),
        Name::Keys(_) => text::check(path, &text, &formats::key),
        Name::Runlevels => text::check(path, &text, &|line| runlevels::rule(0, line).map(drop)),
        Name::Links => text::check(path, &text, &|line| links::line(line).map(drop)),
        Name::Owners => text::check(path, &text, &|line| {
            let rule = owners::rule(line)?;
            let given = system.keys().map(|path| without_room(path).1);
            let targets: Vec<&str> = given
                .filter_map(|name| match Name::of(name)? {
                    Name::Any(target) => Some(target),
                    Name::Plain(plain) => Some(plain.target),
                    _ => None,
                })
                .collect();
            if targets.contains(&rule.path.as_str()) {
                return Ok(());
            }
            let message = format!("/{} is no file of this configuration", rule.path);
            let near = near(&rule.path, targets).map(|path| format!("/{path}"));
            Err(text::Wrong { message, near })
        }),
    };
    out.extend(found);
}

/// Files for rooms in which no machine is.
pub fn empty_rooms(system: &Files, machines: &Machines) -> Vec<Error> {
    let known: Vec<&str> = machines.machine.iter().filter_map(|m| m.room.as_deref()).collect();
    let empty = |path: &String| {
        let room = path.strip_prefix(ROOMS)?.split('/').next()?;
        let message = format!("no entry of controller/machines.toml has room = {room:?}");
        let mut error = Error::new(&format!("{FOLDER}{path}"), message);
        error.suggestion = near(room, known.iter().copied()).map(|room| format!("{ROOMS}{room}"));
        (!known.contains(&room)).then_some(error)
    };
    system.keys().filter_map(empty).collect()
}

/// Whether a line of a file masks it.
pub fn is_mask(line: &str) -> bool {
    line.starts_with(FILE_MASK)
}

/// The path of a file as it begins for one room, and its name after that.
fn without_room(path: &str) -> (&str, &str) {
    let Some(below) = path.strip_prefix(ROOMS) else { return ("", path) };
    let name = below.split_once('/').map_or("", |(_, name)| name);
    path.split_at(path.len() - name.len())
}

fn unknown(path: &str) -> Error {
    let mut error = Error::new(
        &format!("{FOLDER}{path}"),
        "nothing is known by this name: put it under controller/system/files/ at its path in the system",
    );
    let (room, name) = without_room(path);
    error.suggestion = near(name, names()).map(|known| format!("{FOLDER}{room}{known}"));
    error
}

#[cfg(test)]
mod tests;
