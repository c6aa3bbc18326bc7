//! `controller/system/`: files that the controller puts into the installed system.
//!
//! A few have names of their own, as administrators know them; any other file lies under `files/` at
//! its path in the system.

use std::collections::BTreeMap;

use super::{
    Error, Machines,
    bundle::{File, Files},
    machines::{Identity, hostname},
};

/// Names in `controller/system/` and where they go.
const KNOWN: [(&str, &str); 3] =
    [("hostname", "etc/hostname"), ("hosts", "etc/hosts"), ("timezone", "etc/timezone")];
const ANY: &str = "files/";

/// The files that this machine's system is to have, by their path relative to its root.
pub fn files(system: &Files, machines: &Machines, machine: &Identity) -> BTreeMap<String, File> {
    let mut out = BTreeMap::new();
    for (name, file) in system {
        if let Some(target) = target(name) {
            out.insert(target.to_owned(), file.clone());
        }
    }
    let pattern =
        system.get("hostname").map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
    let pattern = pattern.as_deref().and_then(|text| {
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
    });
    let name = machines.hostname(machine).or_else(|| hostname(pattern?, machine));
    match name {
        Some(name) => {
            let file = File { mode: 0o644, bytes: format!("{name}\n").into_bytes() };
            out.insert("etc/hostname".to_owned(), file);
        }
        None => drop(out.remove("etc/hostname")),
    }
    out
}

/// Refuses names that nothing would come of.
pub fn check(system: &Files) -> Result<(), Error> {
    let Some(name) = system.keys().find(|name| target(name).is_none()) else { return Ok(()) };
    let known = KNOWN.iter().map(|(known, _)| *known);
    let mut error = Error::new(
        &format!("controller/system/{name}"),
        "nothing is known by this name: put it under controller/system/files/ at its path in the system",
    );
    error.suggestion = known
        .filter(|known| strsim::damerau_levenshtein(name, known) <= 2)
        .map(|known| format!("controller/system/{known}"))
        .next();
    Err(error)
}

fn target(name: &str) -> Option<&str> {
    match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => Some(target),
        None => name.strip_prefix(ANY).filter(|path| !path.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { mode: 0o644, bytes: text.as_bytes().to_vec() };
        files.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect()
    }

    fn machine() -> Identity {
        Identity { macs: vec!["52:54:00:0a:0b:0c".to_owned()], serial: Some("S 1".to_owned()) }
    }

    #[test]
    fn files_go_where_their_names_say() {
        let system = system(&[("hosts", "::1 me\n"), ("files/etc/motd", "hello\n")]);
        assert!(check(&system).is_ok());
        let files = files(&system, &Machines::default(), &machine());
        assert_eq!(files.keys().collect::<Vec<_>>(), ["etc/hosts", "etc/motd"]);
    }

    #[test]
    fn a_hostname_is_made_for_each_machine() {
        let system = system(&[("hostname", "# by address\nlab-{mac}\n")]);
        let name = |machines: &Machines, machine: &Identity| {
            files(&system, machines, machine).remove("etc/hostname").map(|f| f.bytes)
        };
        assert_eq!(name(&Machines::default(), &machine()), Some(b"lab-0a0b0c\n".to_vec()));
        let own =
            Machines::parse("[[machine]]\nmatch.serial = \"S*\"\nhostname = \"desk-{serial}\"\n");
        assert_eq!(name(&own.unwrap_or_default(), &machine()), Some(b"desk-S1\n".to_vec()));
    }

    #[test]
    fn an_unknown_name_is_an_error_with_the_nearest_one() {
        let error = check(&system(&[("hostnam", "x")])).err().map(|e| e.to_string());
        assert!(
            error
                .as_deref()
                .is_some_and(|e| e.contains("did you mean `controller/system/hostname`?")),
            "{error:?}"
        );
        assert!(check(&system(&[("files/", "x")])).is_err());
    }
}
