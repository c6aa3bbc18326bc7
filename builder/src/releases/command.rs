//! From the command line to releases, and back to the person.

use gse_protocol::sign::Keys;
use indicatif::BinaryBytes;

use super::{Chosen, Published, Standing, Store, Surplus, choose, diff, prune, surplus, withdraw};
use crate::{
    cli::Cli,
    commands::{created, print_json, print_line},
    keys::{self, SecretKey},
    password,
};

/// How many images `--prune` keeps beside the default.
const KEEP: usize = 1;

/// `--releases`, `--diff`, `--default`, `--withdraw`, `--prune`; none if the command line has none of them.
///
/// # Errors
/// Those of what was asked for.
pub fn command(cli: &Cli) -> Option<anyhow::Result<()>> {
    let flags = &cli.releases;
    if flags.releases {
        Some(list(cli))
    } else if let Some([old, new]) = flags.diff.as_deref() {
        Some(compare(cli, old, new))
    } else if let Some(version) = &flags.default {
        Some(set_default(cli, version))
    } else if let Some(version) = &flags.withdraw {
        Some(take_back(cli, version))
    } else {
        flags.prune.map(|keep| clear(cli, keep.unwrap_or(KEEP)))
    }
}

impl Store {
    /// What `--dist` names, read with the public key beside the secret one, or with `--pub`, or both.
    ///
    /// # Errors
    /// If there is no key.
    pub fn of(cli: &Cli) -> anyhow::Result<Self> {
        let beside = keys::public_file(&cli.key);
        let files = match &cli.r#pub {
            Some(file) if beside.exists() => vec![beside, file.clone()],
            Some(file) => vec![file.clone()],
            None => vec![beside],
        };
        let keys = files.iter().map(|file| keys::load_public(file)).collect::<Result<_, _>>()?;
        Ok(Self { dist: cli.dist.clone(), keys: Keys(keys) })
    }
}

fn list(cli: &Cli) -> anyhow::Result<()> {
    let images = Store::of(cli)?.list()?;
    if cli.json {
        return print_json(&images);
    }
    if images.is_empty() {
        let dist = cli.dist.display();
        return print_line(&format!(
            "nothing is published in {dist}: gse --archive or gse --base with --version does it"
        ));
    }
    print_line(images.iter().map(line).collect::<Vec<_>>().join("\n").as_str())
}

fn line(image: &Published) -> String {
    let mark = match image.standing {
        Standing::Default => "* ",
        Standing::Published => "  ",
        Standing::Withdrawn => "x ",
    };
    let note = match image.standing {
        Standing::Default => "  (default: machines take it)",
        Standing::Published => "",
        Standing::Withdrawn => "  (withdrawn)",
    };
    format!(
        "{mark}{:<8} {} {}  {} packed, {} installed{note}",
        format!("#{}", image.serial),
        image.name,
        image.version,
        BinaryBytes(image.packed),
        BinaryBytes(image.installed)
    )
}

fn compare(cli: &Cli, old: &str, new: &str) -> anyhow::Result<()> {
    let difference = diff(&Store::of(cli)?, old, new)?;
    if cli.json { print_json(&difference) } else { print_line(&difference.to_string()) }
}

/// The store also trusts the key that signs, and the key is there before anything is changed.
fn signing(cli: &Cli) -> anyhow::Result<(Store, SecretKey)> {
    let key = SecretKey::load(&cli.key, password::ask)?;
    let mut keys = vec![key.public().clone()];
    keys.extend(
        cli.r#pub.iter().map(|file| keys::load_public(file)).collect::<Result<Vec<_>, _>>()?,
    );
    Ok((Store { dist: cli.dist.clone(), keys: Keys(keys) }, key))
}

fn set_default(cli: &Cli, version: &str) -> anyhow::Result<()> {
    let (store, key) = signing(cli)?;
    let chosen = choose(&store, version, &key, created()?)?;
    if cli.json { print_json(&chosen) } else { print_line(&sentence(&chosen)) }
}

fn sentence(chosen: &Chosen) -> String {
    let Chosen { version, serial, already } = chosen;
    match already {
        true => format!("{version} is the default already, with serial {serial}"),
        false => format!("machines take {version} at their next start, as serial {serial}"),
    }
}

fn take_back(cli: &Cli, version: &str) -> anyhow::Result<()> {
    let (store, key) = signing(cli)?;
    let next = withdraw(&store, version, &key, created()?)?;
    if cli.json {
        return print_json(&serde_json::json!({ "withdrawn": version, "default": next }));
    }
    let after = next.map(|next| format!("; {}", sentence(&next))).unwrap_or_default();
    print_line(&format!(
        "{version} is offered no longer{after}. gse --prune --force removes its files"
    ))
}

fn clear(cli: &Cli, keep: usize) -> anyhow::Result<()> {
    let store = Store::of(cli)?;
    let found = if cli.force { prune(&store, keep)? } else { surplus(&store.list()?, keep) };
    if cli.json {
        return print_json(&serde_json::json!({ "removed": cli.force, "images": found }));
    }
    let bytes: u64 = found.iter().map(|image| image.packed).sum();
    let mut lines: Vec<String> = found.iter().map(describe).collect();
    lines.push(match (found.is_empty(), cli.force) {
        (true, _) => "nothing to remove".to_owned(),
        (false, true) => format!("removed: {} are free", BinaryBytes(bytes)),
        (false, false) => {
            format!(
                "nothing was removed yet: with --force these go, and {} are free",
                BinaryBytes(bytes)
            )
        }
    });
    print_line(&lines.join("\n"))
}

fn describe(image: &Surplus) -> String {
    let why = if image.standing == Standing::Withdrawn { "withdrawn" } else { "older" };
    format!("{}  {why}, {}", image.folder, BinaryBytes(image.packed))
}
