//! From the command line to the library, and from its answers to the person.

use std::{
    fs,
    io::{Write as _, stdout},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use gse_protocol::{
    Serial,
    sign::{Claim, Kind},
};
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use crate::{
    archive::{self, ArchiveOptions, Summary},
    cli::Cli,
    config_d,
    keys::{self, SecretKey},
    password,
    progress::Progress,
    publish, serve, verify,
};

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

/// `--archive=TREE --version=V [--name=N] [--kernel=FILE --initramfs=FILE]
/// [--dist=DIR] [--key=FILE] [--level=L]`
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
        kernel: match (&cli.kernel, &cli.initrd) {
            (Some(kernel), Some(initrd)) => Some([kernel, initrd]),
            (None, None) => None,
            _ => {
                anyhow::bail!("--archive takes --kernel and --initramfs together, or none of them")
            }
        },
        latest: true,
        created: created()?,
        until: epoch()?,
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

/// `--sign=FILE [--key=FILE]`
pub fn sign(cli: &Cli, file: &Path) -> anyhow::Result<()> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    anyhow::ensure!(
        name.ends_with(".tar.zst") && name != "system.tar.zst",
        "{} is no archive of a directory: `tar --zstd -C / -cf etc.tar.zst etc` makes one",
        file.display()
    );
    let key = SecretKey::load(&cli.key, password::ask)?;
    let bytes = fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    // It has no serial: the time tells a person which of two is newer.
    let claim = Claim { kind: Kind::Archive, serial: Serial(created()?) };
    let target = file.with_file_name(format!("{name}.minisig"));
    fs::write(&target, key.sign(claim, "", bytes)?)
        .with_context(|| format!("writing {}", target.display()))?;
    print_line(&format!("{}: signed by key {}", target.display(), key.public().id()))
}

/// `--check-config[=CONFIG.D]`
pub fn check_config(cli: &Cli, config: Option<&Path>) -> anyhow::Result<()> {
    let config = config_d::find(config.or(cli.config.as_deref()))?;
    publish::check(&config)?;
    print_line(&format!("{}: no mistakes found", config.display()))
}

/// `--publish-config[=CONFIG.D] [--dist=DIR] [--key=FILE]`
pub fn publish_config(cli: &Cli, config: Option<&Path>) -> anyhow::Result<()> {
    let key = SecretKey::load(&cli.key, password::ask)?;
    let options = publish::Options {
        config: config_d::find(config.or(cli.config.as_deref()))?,
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

/// When something is published: now, or [`epoch`] for a reproducible result.
pub(crate) fn created() -> anyhow::Result<u64> {
    if let Some(epoch) = epoch()? {
        return Ok(epoch);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("the clock is before 1970: set it")?.as_secs())
}

/// `SOURCE_DATE_EPOCH`, in seconds since 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub(crate) fn epoch() -> anyhow::Result<Option<u64>> {
    let text = std::env::var("SOURCE_DATE_EPOCH").ok();
    let number = text.map(|text| text.parse()).transpose();
    number.context("SOURCE_DATE_EPOCH is no number of seconds since 1970")
}

pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string(value)?)
}

/// Unlike `println!` this does not panic when nobody reads the answer.
pub(crate) fn print_line(text: &str) -> anyhow::Result<()> {
    writeln!(stdout(), "{text}").context("writing the answer to standard output")
}
