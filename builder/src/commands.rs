//! From the command line to the library, and from its answers to the person.

use std::{
    io::{Write as _, stdout},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use gse_protocol::sign::{Claim, Keys};
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use crate::{
    archive::{self, ArchiveOptions, Summary},
    cli::Cli,
    keys::{self, SecretKey},
    password,
    patch::{self, Difference, Image},
    progress::Progress,
    publish, serve, verify,
};

/// Where the configuration is unless the command line says otherwise.
const CONFIG_D: &str = "config.d";

/// `--keygen=FILE [--password]`
pub fn keygen(cli: &Cli, file: &Path) -> anyhow::Result<()> {
    let password = cli.password.then(password::choose).transpose()?;
    let key = keys::generate(file, password)?;
    let public = keys::public_file(file);
    if cli.json {
        return print_json(&serde_json::json!({
            "id": key.id().to_string(), "key": key.to_string(), "secret": file, "public": public,
        }));
    }
    print_line(&format!(
        "{}: secret key {}, keep it private\n{}: public key {key}, for sources.toml",
        file.display(),
        key.id(),
        public.display(),
    ))
}

/// `--archive=TREE --version=V [--name=N] [--dist=DIR] [--key=FILE] [--level=L]`
pub fn archive(cli: &Cli, tree: &Path) -> anyhow::Result<()> {
    let key = SecretKey::load(&cli.key, password::ask)?;
    let older_keys: Vec<_> =
        cli.r#pub.iter().map(|p| keys::load_public(p)).collect::<Result<_, _>>()?;
    let options = ArchiveOptions {
        tree,
        name: &cli.name,
        version: cli.version.as_deref().context("--archive needs --version")?,
        dist: &cli.dist,
        key: &key,
        older_keys: &older_keys,
        level: cli.level,
        allow_downgrade: cli.allow_downgrade,
        created: created()?,
        patches: cli.patches,
        threads: archive::cores(),
    };
    let summary = archive::archive(&options, &Progress::stderr())?;
    if cli.json { print_json(&summary) } else { print_line(&sentence(&summary)) }
}

fn sentence(summary: &Summary) -> String {
    let Summary { name, version, serial, path, entries, tar, packed, seconds, .. } = summary;
    format!(
        "published {name} {version} as serial {serial} in {}: {} entries, {} packed to {} ({:.1}%) in {seconds:.1} s, {}/s",
        path.display(),
        HumanCount(*entries),
        BinaryBytes(*tar),
        BinaryBytes(*packed),
        *packed as f64 * 100.0 / (*tar).max(1) as f64,
        BinaryBytes((*tar as f64 / seconds.max(0.001)) as u64),
    )
}

/// `--verify=FILE [--pub=FILE]`
pub fn verify(cli: &Cli, file: &Path) -> anyhow::Result<()> {
    let public = cli.r#pub.clone().unwrap_or_else(|| keys::public_file(&cli.key));
    let verified = verify::verify(file, &keys::load_public(&public)?)?;
    if cli.json {
        return print_json(&verified);
    }
    let verify::Verified { kind, serial, key, details } = verified;
    print_line(&format!(
        "{}: {kind} with serial {serial}, signed by key {key}: {details}",
        file.display()
    ))
}

/// `--diff OLD NEW [--name=N] [--dist=DIR] [--pub=FILE]`
pub fn diff(cli: &Cli, versions: &[String]) -> anyhow::Result<()> {
    let [old, new] = versions else { bail!("--diff needs two versions") };
    let public = cli.r#pub.clone().unwrap_or_else(|| keys::public_file(&cli.key));
    let keys = Keys(vec![keys::load_public(&public)?]);
    let open = |version: &str| {
        let folder = cli.dist.join("images").join(format!("{}-{version}", cli.name));
        Ok::<_, patch::ImageError>(Image::open(&folder, &keys)?.index)
    };
    let difference = Difference::new(&open(old)?, &open(new)?);
    if cli.json { print_json(&difference) } else { print_line(&difference.to_string()) }
}

/// `--check-config[=CONFIG.D]`
pub fn check_config(config: Option<&Path>) -> anyhow::Result<()> {
    let config = config.unwrap_or(Path::new(CONFIG_D));
    publish::check(config)?;
    print_line(&format!("{}: no mistakes found", config.display()))
}

/// `--publish-config[=CONFIG.D] [--dist=DIR] [--key=FILE]`
pub fn publish_config(cli: &Cli, config: Option<&Path>) -> anyhow::Result<()> {
    let key = SecretKey::load(&cli.key, password::ask)?;
    let options = publish::Options {
        config: config.unwrap_or(Path::new(CONFIG_D)).to_owned(),
        dist: cli.dist.clone(),
        created: created()?,
        signer: key.public().clone(),
    };
    let outcome = publish::publish(&options, |kind, serial, bytes| {
        key.sign(Claim { kind, serial }, "", bytes)
    })?;
    print_line(outcome.to_string().trim_end())
}

/// `--serve[=ADDR:PORT] [--dist=DIR] [--tls-cert=F --tls-key=F]`
pub fn serve(cli: &Cli, address: Option<&str>) -> anyhow::Result<()> {
    let tls = cli.tls_cert.clone().zip(cli.tls_key.clone());
    let options = serve::Options {
        address: address.map_or(Ok(serve::DEFAULT_ADDRESS), serve::parse_address)?,
        dist: cli.dist.clone(),
        tls: tls.map(|(certificates, key)| serve::Tls { certificates, key }),
        limits: serve::Limits::default(),
    };
    Ok(serve::run(&options, &mut stdout())?)
}

/// When something is published: now, or `SOURCE_DATE_EPOCH` for a reproducible result
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub(crate) fn created() -> anyhow::Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().context("SOURCE_DATE_EPOCH is no number of seconds since 1970"),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            Ok(now.context("the clock is before 1970: set it")?.as_secs())
        }
    }
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string(value)?)
}

/// Unlike `println!` this does not panic when nobody reads the answer.
fn print_line(text: &str) -> anyhow::Result<()> {
    writeln!(stdout(), "{text}").context("writing the answer to standard output")
}
