//! From what the configuration wants to things at paths, with what is known of the image. Pure.

use std::collections::BTreeMap;

use gse_protocol::config::{
    bundle::File,
    near,
    system::{Desired, owners::Owner, runlevels::Rule},
};

use super::{
    Directory, Image, Init, OwnedFile, Thing, Wanted, Wishes,
    image::{ZONES, Zone, install, unit_file, unit_name},
};

/// What the image has not, and the configuration needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A service, runlevel, user, group or time zone.
    #[error("{place}the image has no {kind} {name:?}{}", suggestion(.near.as_deref()))]
    Unknown {
        /// Where the configuration names it, such as `runlevels:3: `; empty where that is plain.
        place: String,
        /// What it would be.
        kind: &'static str,
        /// Its name.
        name: String,
        /// One that the image has, and that is much alike.
        near: Option<String>,
    },
    /// Services cannot be told to start.
    #[error("runlevels: the image has neither /etc/runlevels (OpenRC) nor systemd's units")]
    NoInit,
    /// A unit that cannot be enabled.
    #[error(
        "runlevels:{line}: the unit {name} says nowhere when it starts (it has no [Install]); name a \
         target in place of \"default\""
    )]
    NoInstall {
        /// In `runlevels`.
        line: usize,
        /// Of the unit.
        name: String,
    },
}

fn suggestion(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// What is to be where, and what a person should know about it.
///
/// # Errors
/// What the image has not.
pub fn resolve(desired: &Desired, image: &Image) -> Result<(Wishes, Vec<String>), ResolveError> {
    let mut wishes = Wishes::default();
    let mut notes = Vec::new();
    for wanted in &desired.files {
        let (uid, gid) = image.owner(&wanted.owner)?;
        wishes.put(
            wanted.path.clone(),
            Thing::File(OwnedFile { file: wanted.file.clone(), uid, gid }),
        );
    }
    for symlink in &desired.links.symlinks {
        wishes.link(symlink.link.clone(), symlink.target.clone());
        if let Some(wanted) = wishes.things.last_mut() {
            wanted.force = symlink.force;
        }
    }
    if let Some(zone) = &desired.timezone {
        if let Zone::Missing { near } = &image.zone {
            return Err(unknown("timezone: ", "time zone", zone, near.as_deref()));
        }
        wishes.link("etc/localtime", format!("../{ZONES}/{zone}"));
    }
    for (user, keys) in &desired.keys {
        wishes.keys(image, user, keys)?;
    }
    for (name, bytes) in &desired.scripts {
        wishes.script(name, bytes, &image.init);
    }
    for rule in &desired.runlevels {
        wishes.runlevel(rule, &image.init, &mut notes)?;
    }
    Ok((wishes, notes))
}

fn unknown(place: &str, kind: &'static str, name: &str, near: Option<&str>) -> ResolveError {
    let (place, near) = (place.to_owned(), near.map(str::to_owned));
    ResolveError::Unknown { place, kind, name: name.to_owned(), near }
}

/// The line of `/etc/passwd` or `/etc/group` that begins with this name, in its fields: passwd(5).
fn entry<'t>(text: &'t str, kind: &'static str, name: &str) -> Result<Vec<&'t str>, ResolveError> {
    let fields = || text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let names = || fields().filter_map(|fields| fields.first().copied());
    let found = fields().find(|fields| fields.first() == Some(&name) && fields.len() > 2);
    found.ok_or_else(|| unknown("", kind, name, near(name, names())))
}

fn number(fields: &[&str], nth: usize) -> Option<u32> {
    fields.get(nth)?.parse().ok()
}

impl Image {
    fn owner(&self, owner: &Owner) -> Result<(u32, u32), ResolveError> {
        let by_name = |user: &str| {
            let fields = entry(&self.passwd, "user", user)?;
            let both = number(&fields, 2).zip(number(&fields, 3));
            both.ok_or_else(|| unknown("/etc/passwd: ", "number for the user", user, None))
        };
        let group = match &owner.group {
            None => None,
            Some(group) => Some(match group.parse() {
                Ok(gid) => gid,
                Err(_) => number(&entry(&self.group, "group", group)?, 2)
                    .ok_or_else(|| unknown("/etc/group: ", "number for the group", group, None))?,
            }),
        };
        match (owner.user.parse::<u32>(), group) {
            (Ok(uid), Some(gid)) => Ok((uid, gid)),
            (Ok(uid), None) => {
                let fields = self.passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
                let mut own = fields.filter(|fields| number(fields, 2) == Some(uid));
                Ok((uid, own.find_map(|fields| number(&fields, 3)).unwrap_or(uid)))
            }
            (Err(_), group) => {
                let (uid, own) = by_name(&owner.user)?;
                Ok((uid, group.unwrap_or(own)))
            }
        }
    }
}

impl Wishes {
    fn put(&mut self, path: String, thing: Thing) {
        // The last word counts.
        self.things.retain(|wanted| wanted.path != path);
        self.things.push(Wanted { path, thing, force: true });
    }

    fn link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.put(path.into(), Thing::Link(target.into()));
    }

    fn text(&mut self, path: String, mode: u32, bytes: &[u8]) {
        let file = File { mode, bytes: bytes.to_vec() };
        self.put(path, Thing::File(OwnedFile { file, uid: 0, gid: 0 }));
    }

    /// sshd takes a user's keys only from files that nobody else can write: sshd(8).
    fn keys(&mut self, image: &Image, user: &str, keys: &[u8]) -> Result<(), ResolveError> {
        let (uid, gid) = image.owner(&Owner { user: user.to_owned(), group: None })?;
        let fields = entry(&image.passwd, "user", user)?;
        let home = fields.get(5).map(|home| home.trim_matches('/')).filter(|home| !home.is_empty());
        let Some(home) = home else {
            return Err(unknown("ssh.pub: ", "home directory for the user", user, None));
        };
        let folder = format!("{home}/.ssh");
        let file = File { mode: 0o600, bytes: keys.to_vec() };
        self.put(format!("{folder}/authorized_keys"), Thing::File(OwnedFile { file, uid, gid }));
        self.directories.push((folder, Directory { mode: 0o700, uid, gid }));
        Ok(())
    }

    /// OpenRC's service `local` runs what is in `/etc/local.d`; systemd gets a unit that does.
    fn script(&mut self, name: &str, bytes: &[u8], init: &Init) {
        let stops = name.ends_with(".stop");
        let name = name.trim_end_matches(".start").trim_end_matches(".stop");
        let file = format!("etc/local.d/{name}.{}", if stops { "stop" } else { "start" });
        self.text(file.clone(), 0o755, bytes);
        if matches!(init, Init::Systemd { .. }) {
            let unit = format!("gse-{name}-{}.service", if stops { "stop" } else { "start" });
            let when = if stops {
                format!("ExecStart=/bin/true\nExecStop=/{file}")
            } else {
                format!("ExecStart=/{file}")
            };
            let text = format!(
                "[Unit]\nDescription=/{file} of the GSE configuration\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\n{when}\n"
            );
            self.text(format!("etc/systemd/system/{unit}"), 0o644, text.as_bytes());
            let wants = "etc/systemd/system/multi-user.target.wants";
            self.link(format!("{wants}/{unit}"), format!("../{unit}"));
        }
    }

    fn runlevel(
        &mut self,
        rule: &Rule,
        init: &Init,
        notes: &mut Vec<String>,
    ) -> Result<(), ResolveError> {
        let links = match init {
            Init::Other => return Err(ResolveError::NoInit),
            Init::OpenRc { services, runlevels } => {
                let known = |names: &Vec<String>, kind, name: &String| {
                    let near = near(name, names.iter().map(String::as_str));
                    names.contains(name).then_some(()).ok_or_else(|| {
                        unknown(&format!("runlevels:{}: ", rule.line), kind, name, near)
                    })
                };
                known(runlevels, "runlevel", &rule.runlevel).and_then(|()| {
                    known(services, "service", &rule.service)?;
                    let path = format!("etc/runlevels/{}/{}", rule.runlevel, rule.service);
                    // As rc-update makes it.
                    Ok(vec![(path, format!("/etc/init.d/{}", rule.service))])
                })
            }
            Init::Systemd { units, texts } => enable(rule, units, texts),
        };
        match links {
            Ok(links) => {
                for (path, target) in links {
                    let thing = if rule.add { Thing::Link(target) } else { Thing::Nothing };
                    self.put(path, thing);
                }
                Ok(())
            }
            // What is not there does not start. A newer image may do without a service.
            Err(e) if !rule.add => {
                notes.push(e.to_string());
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

/// The links that `systemctl enable` makes, and what they say: systemd.unit(5), "[Install] section".
fn enable(
    rule: &Rule,
    units: &BTreeMap<String, String>,
    texts: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, ResolveError> {
    const FOLDER: &str = "etc/systemd/system";
    let unknown = |kind, name: &str| {
        let near = near(name, units.keys().map(String::as_str));
        unknown(&format!("runlevels:{}: ", rule.line), kind, name, near)
    };
    let name = unit_name(&rule.service);
    let file = unit_file(&rule.service, units);
    let Some(path) = file.and_then(|file| units.get(&file)) else {
        return Err(unknown("unit", &name));
    };
    if rule.runlevel != "default" {
        let target = match rule.runlevel.ends_with(".target") {
            true => rule.runlevel.clone(),
            false => format!("{}.target", rule.runlevel),
        };
        if !units.contains_key(&target) {
            return Err(unknown("target", &target));
        }
        return Ok(vec![(format!("{FOLDER}/{target}.wants/{name}"), path.clone())]);
    }
    let mut links = Vec::new();
    let mut names = vec![name.clone()];
    let mut nth = 0;
    while let Some(name) = names.get(nth).cloned() {
        nth += 1;
        let file = unit_file(&name, units).and_then(|file| units.get_key_value(&file));
        let Some((file, path)) = file else { continue };
        let text = texts.get(file).map_or("", String::as_str);
        for (key, word) in install(text) {
            let link = match key {
                "WantedBy" => format!("{FOLDER}/{word}.wants/{name}"),
                "RequiredBy" => format!("{FOLDER}/{word}.requires/{name}"),
                "Alias" => format!("{FOLDER}/{word}"),
                "Also" => {
                    let also = unit_name(word);
                    if !names.contains(&also) {
                        names.push(also);
                    }
                    continue;
                }
                _ => continue,
            };
            links.push((link, path.clone()));
        }
    }
    if links.is_empty() {
        return Err(ResolveError::NoInstall { line: rule.line, name });
    }
    Ok(links)
}

#[cfg(test)]
mod tests;
