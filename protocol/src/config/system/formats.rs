//! The files that go into the system as they are, and what their lines have to be.

use std::net::IpAddr;

use base64ct::{Base64, Encoding as _};

use super::text::Wrong;
use crate::config::{machines::is_hostname_pattern, near};

/// A file that goes to one place as it is.
pub(super) struct Plain {
    /// In `controller/system/`.
    pub(super) name: &'static str,
    /// Its path in the system.
    pub(super) target: &'static str,
    /// Permissions.
    pub(super) mode: u32,
    /// What each line that counts has to be.
    pub(super) line: fn(&str) -> Result<(), Wrong>,
}

/// Where Gentoo has them; elsewhere, `files/` takes any path.
pub(super) const PLAIN: [Plain; 8] = [
    plain("hosts", "etc/hosts", hosts),
    plain("fstab", "etc/fstab", fstab),
    plain("net", "etc/conf.d/net", anything),
    plain("locale.gen", super::LOCALE_GEN, locale),
    plain("consolefont", "etc/conf.d/consolefont", consolefont),
    plain("keymaps", "etc/conf.d/keymaps", keymaps),
    plain("grub", "etc/default/grub", grub),
    Plain { mode: 0o600, ..plain("sshd", "etc/ssh/sshd_config", sshd) },
];

const fn plain(
    name: &'static str,
    target: &'static str,
    line: fn(&str) -> Result<(), Wrong>,
) -> Plain {
    Plain { name, target, mode: 0o644, line }
}

fn wrong<T>(message: String) -> Result<T, Wrong> {
    Err(Wrong::new(message))
}

/// `conf.d/net` is a program for bash.
fn anything(_: &str) -> Result<(), Wrong> {
    Ok(())
}

pub(super) fn hostname(line: &str) -> Result<(), Wrong> {
    if is_hostname_pattern(line) {
        return Ok(());
    }
    wrong(format!(
        "{line:?} may only have letters, digits, - and ., beside {{mac}}, {{serial}} and {{room}}"
    ))
}

/// As hosts(5) has it: an address, and names.
fn hosts(line: &str) -> Result<(), Wrong> {
    let mut words = words(line);
    let address = words.next().unwrap_or_default();
    // fe80::1%lo0 names a link too.
    if address.split('%').next().is_none_or(|a| a.parse::<IpAddr>().is_err()) {
        return wrong(format!("{address:?} is no address like 192.0.2.1 or ::1"));
    }
    if words.next().is_none() { wrong(format!("{address} has no name")) } else { Ok(()) }
}

/// The words before a comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#').next().unwrap_or_default().split_whitespace()
}

/// As fstab(5) has it.
fn fstab(line: &str) -> Result<(), Wrong> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, point, _, _, numbers @ ..] = words.as_slice() else {
        return wrong("a line has what, where, type and options, and mostly two numbers".into());
    };
    if !point.starts_with('/') && !matches!(*point, "none" | "swap") {
        return wrong(format!("{point:?} is neither an absolute path nor none"));
    }
    match numbers
        .iter()
        .take_while(|word| !word.starts_with('#'))
        .enumerate()
        .find(|(n, word)| *n > 1 || word.parse::<u8>().is_err())
    {
        Some((_, word)) => wrong(format!("{word:?} is not one of the two numbers at the end")),
        None => Ok(()),
    }
}

/// As locale.gen(5) has it: a locale, and its character set.
fn locale(line: &str) -> Result<(), Wrong> {
    let words: Vec<&str> = words(line).collect();
    let [name, charset] = words.as_slice() else {
        return wrong(
            "a line has a locale and its character set, such as de_DE.UTF-8 UTF-8".into(),
        );
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    if !name.chars().all(plain) {
        return wrong(format!("{name:?} is no name of a locale like de_DE.UTF-8"));
    }
    match name.split(['.', '@']).nth(1).filter(|_| name.contains('.')) {
        Some(own) if !own.eq_ignore_ascii_case(charset) => Err(Wrong {
            message: format!("the character set of {name} is not {charset}"),
            near: Some(format!("{name} {own}")),
        }),
        _ => Ok(()),
    }
}

pub(super) fn timezone(line: &str) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    if line.split('/').all(|part| !part.is_empty() && part.chars().all(plain)) {
        return Ok(());
    }
    wrong(format!("{line:?} is no name of a time zone like Europe/Berlin"))
}

fn consolefont(line: &str) -> Result<(), Wrong> {
    one_of(line, &["consolefont", "consoletranslation", "unicodemap"])
}

fn keymaps(line: &str) -> Result<(), Wrong> {
    one_of(line, &["keymap", "windowkeys", "extended_keymaps", "dumpkeys_charset", "fix_euro"])
}

fn grub(line: &str) -> Result<(), Wrong> {
    let name = assignment(line)?;
    if name.starts_with("GRUB_") {
        return Ok(());
    }
    wrong(format!("GRUB reads no {name}: its settings begin with GRUB_"))
}

fn one_of(line: &str, known: &[&str]) -> Result<(), Wrong> {
    let name = assignment(line)?;
    if known.contains(&name) {
        return Ok(());
    }
    let near = near(name, known.iter().copied()).map(str::to_owned);
    Err(Wrong { message: format!("there is no setting {name}"), near })
}

/// The name in `NAME=value`, whose quotes are closed.
fn assignment(line: &str) -> Result<&str, Wrong> {
    let plain = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = line.split_once('=').filter(|(name, _)| plain(name)) else {
        return wrong(format!("{line:?} is no line like NAME=\"value\""));
    };
    let mut open = None;
    for c in value.chars().filter(|c| matches!(c, '"' | '\'')) {
        open = match open {
            None => Some(c),
            Some(quote) if quote == c => None,
            other => other,
        };
    }
    match open {
        Some(quote) => wrong(format!("the {quote} of {name} is not closed")),
        None => Ok(name),
    }
}

/// As sshd_config(5) has it.
fn sshd(line: &str) -> Result<(), Wrong> {
    let mut words = line.splitn(2, |c: char| c.is_whitespace() || c == '=');
    let keyword = words.next().unwrap_or_default();
    if !keyword.chars().all(|c| c.is_ascii_alphanumeric()) {
        return wrong(format!("{keyword:?} is no keyword of sshd"));
    }
    match words.next().map(str::trim).filter(|value| !value.is_empty()) {
        Some(_) => Ok(()),
        None => wrong(format!("{keyword} has no value")),
    }
}

/// As sshd(8) has `authorized_keys`: options where wanted, the kind of key, the key in base64. The key
/// itself begins with its kind's name, so that half a key or a wrapped one is found.
pub(super) fn key(line: &str) -> Result<(), Wrong> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let fits = |kind: &str, key: &str| {
        let bytes = Base64::decode_vec(key).unwrap_or_default();
        let length = bytes.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b) as usize);
        length > 0
            && bytes.get(4..).is_some_and(|rest| {
                rest.get(..length) == Some(kind.as_bytes()) && rest.len() > length + 16
            })
    };
    if words.windows(2).any(|pair| matches!(pair, [kind, key] if fits(kind, key))) {
        return Ok(());
    }
    wrong("this is no public key as ssh-keygen writes it: a kind, a long word, a comment".into())
}
