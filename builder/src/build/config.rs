//! `system/build.toml`: where a build gets its sources, whom it trusts, and what it makes of them.

use std::path::PathBuf;

use gse_protocol::config::{self, Error as Mistake};
use serde::Deserialize;

use super::compilers;

/// The file, in `config.d`.
pub const FILE: &str = "system/build.toml";

/// The whole file; every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// The machine that builds.
    pub host: Host,
    /// From where stage3 and snapshot come, and whom they must be signed by.
    pub sources: Sources,
    /// `gse --base=catalyst`.
    pub catalyst: Catalyst,
    /// Portage in the system that is built.
    pub portage: Portage,
    /// Compilation on other machines.
    pub distcc: Distcc,
    /// What was compiled before.
    pub ccache: Ccache,
    /// Packages beside the list in `system/packages`.
    pub packages: Packages,
    /// The kernel.
    pub kernel: Kernel,
    /// What starts before the system.
    pub initramfs: Initramfs,
    /// The system's language.
    pub locale: Locale,
    /// What a system is not shipped with: part K.
    pub clean: Clean,
}

/// `[host]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Free space that a build asks for, in GiB.
    pub space: u64,
}

impl Default for Host {
    fn default() -> Self {
        Self { space: 20 }
    }
}

/// `[sources]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// Base URLs, tried in this order.
    pub mirrors: Vec<String>,
    /// The folder of the architecture on the mirrors.
    pub arch: String,
    /// Architecture and flavour, as in `latest-stage3-FLAVOUR.txt`.
    pub flavour: String,
    /// The snapshot of the ebuild repository, without `.tar.xz`.
    pub snapshot: String,
    /// Files with OpenPGP public keys; those below `config.d/system` where the path is relative.
    pub keys: Vec<String>,
    /// Fingerprints of the primary keys that may sign a stage3, its pointer and its digests.
    pub stage3_signers: Vec<Fingerprint>,
    /// Fingerprints of the primary keys that may sign a snapshot.
    pub snapshot_signers: Vec<Fingerprint>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            mirrors: vec!["https://distfiles.gentoo.org/".to_owned()],
            arch: "amd64".to_owned(),
            flavour: "amd64-openrc".to_owned(),
            snapshot: "gentoo-latest".to_owned(),
            keys: vec!["/usr/share/openpgp-keys/gentoo-release.asc".to_owned()],
            // https://www.gentoo.org/downloads/signatures/
            stage3_signers: vec![Fingerprint(
                "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910".to_owned(),
            )],
            snapshot_signers: vec![Fingerprint(
                "DCD05B71EAB94199527F44ACDB6B8C1F96D8BF6D".to_owned(),
            )],
        }
    }
}

/// Of an OpenPGP key, version 4 (40 hexadecimal digits) or later (64); kept in capitals.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(String);

impl Fingerprint {
    /// In capitals, without spaces.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != ' ').collect::<String>().to_uppercase();
        if matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err(format!(
                "{text:?} is no fingerprint: it has 40 or 64 hexadecimal digits, as `gpg --fingerprint` shows"
            ))
        }
    }
}

/// `[catalyst]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalyst {
    /// The commit of the ebuild repository, as `catalyst --snapshot` takes it.
    pub treeish: String,
}

impl Default for Catalyst {
    fn default() -> Self {
        Self { treeish: "stable".to_owned() }
    }
}

/// `[portage]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Portage {
    /// How the ebuild repository gets into the system.
    pub sync: Sync,
    /// As `eselect profile set` takes it; the stage3's own without it.
    pub profile: Option<String>,
    /// Whether every package of the system is compiled anew: part D.
    pub rebuild: bool,
}

/// `portage.sync`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// The snapshot of the mirrors, verified here.
    #[default]
    Snapshot,
    /// `emerge --sync`, as `portage/repos.conf` says.
    Emerge,
}

/// `[distcc]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distcc {
    /// Unless `--distcc` says otherwise.
    #[serde(rename = "use")]
    pub used: compilers::Distcc,
    /// `DISTCC_HOSTS`
    pub hosts: Vec<compilers::Host>,
}

/// `[ccache]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ccache {
    /// Unless `--ccache` says otherwise.
    #[serde(rename = "use")]
    pub used: bool,
    /// On this machine; in the local directory where it is relative.
    pub dir: Option<PathBuf>,
    /// `CCACHE_MAXSIZE`
    pub size: Option<String>,
}

/// `[packages]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packages {
    /// What a build needs itself, or every system should have.
    pub essential: Vec<String>,
    /// Whether eix is installed, and its list made.
    pub eix: bool,
}

impl Default for Packages {
    fn default() -> Self {
        Self { essential: Vec::new(), eix: true }
    }
}

/// `[locale]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locale {
    /// As `eselect locale set` takes it; it has to be one that `system/locale.gen` makes.
    pub lang: Option<String>,
}

/// `[kernel]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// The package that installs it, or its sources.
    pub package: Option<String>,
    /// Who makes it of that package.
    pub by: KernelBy,
}

/// `kernel.by`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelBy {
    /// The package itself: a distribution kernel.
    #[default]
    Package,
    /// genkernel, of the package's sources.
    Genkernel,
}

/// `[initramfs]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Initramfs {
    /// Who makes it; the package of the kernel, if it does, without it.
    pub by: Option<InitramfsBy>,
}

/// `initramfs.by`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitramfsBy {
    /// gse: the controller's own.
    Controller,
    /// dracut, inside the system.
    Dracut,
    /// genkernel, inside the system.
    Genkernel,
}

/// `[clean]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clean {
    /// Entries of `/usr/share` that are removed.
    pub share: Vec<String>,
    /// Whether the ebuild repository goes too: the system can then not install packages without fetching it again.
    pub repository: bool,
}

impl Build {
    /// Reads the file.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let build: Self = config::parse(FILE, text)?;
        let sources = &build.sources;
        let wrong =
            |value: &str, message: &str| Err(Mistake::new(FILE, message).in_line_of(text, value));
        if sources.mirrors.is_empty() {
            return wrong("mirrors", "sources.mirrors is empty: name at least one mirror");
        }
        for mirror in &sources.mirrors {
            if !["http://", "https://"].iter().any(|scheme| mirror.starts_with(scheme)) {
                return wrong(
                    mirror,
                    &format!("the mirror {mirror:?} is no http:// or https:// URL"),
                );
            }
        }
        for (key, value) in [
            ("arch", &sources.arch),
            ("flavour", &sources.flavour),
            ("snapshot", &sources.snapshot),
            ("treeish", &build.catalyst.treeish),
        ] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
            if value.is_empty() || value.starts_with('.') || !value.chars().all(plain) {
                return wrong(
                    value,
                    &format!("sources.{key} = {value:?} is no part of a file's name"),
                );
            }
        }
        if build.kernel.by == KernelBy::Genkernel && build.kernel.package.is_none() {
            let message = "genkernel compiles sources: kernel.package has to name their package";
            return wrong("genkernel", message);
        }
        if let Some(entry) =
            build.clean.share.iter().find(|e| e.contains('/') || e.starts_with('.') || e.is_empty())
        {
            return wrong(
                entry,
                &format!("clean.share names entries of /usr/share, and {entry:?} is none"),
            );
        }
        for (key, signers) in [
            ("stage3_signers", &sources.stage3_signers),
            ("snapshot_signers", &sources.snapshot_signers),
        ] {
            if signers.is_empty() {
                return wrong(
                    key,
                    &format!("sources.{key} is empty: nothing could ever be verified"),
                );
            }
        }
        Ok(build)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_default() {
        let build = Build::parse("").unwrap();
        assert_eq!(build, Build::default());
        assert_eq!(build.sources.stage3_signers.len(), 1);
    }

    #[test]
    fn fingerprints_may_have_spaces() {
        let text = "[sources]\nstage3_signers = [\"13eb bdbe de7a 1277 5dfd  b1ba bb57 2e0e 2d18 2910\"]\n";
        assert_eq!(Build::parse(text).unwrap().sources, Sources::default());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            ("[source]\n", "build.toml:1: unknown field `source`", "did you mean `sources`"),
            ("[sources]\nmirror = []\n", "build.toml:2: unknown field", "did you mean `mirrors`"),
            ("[sources]\nmirrors = []\n", "build.toml:2: ", "at least one"),
            ("[sources]\nmirrors = [\"ftp://x/\"]\n", "build.toml:2: ", "no http:// or https://"),
            ("[sources]\nflavour = \"../x\"\n", "build.toml:2: ", "no part of a file's name"),
            ("[sources]\nsnapshot = \"\"\n", "build.toml", "no part of a file's name"),
            ("[sources]\nstage3_signers = [\"2D182910\"]\n", "build.toml:2: ", "no fingerprint"),
            (
                "[sources]\nsnapshot_signers = []\n",
                "build.toml:2: ",
                "nothing could ever be verified",
            ),
            ("[clean]\nshare = [\"..\"]\n", "build.toml:2: ", "entries of /usr/share"),
            ("[portage]\nsync = \"git\"\n", "build.toml:2: unknown variant", "`snapshot`"),
            ("[distcc]\nhosts = [\"me@a\"]\n", "build.toml:2: ", "SSH"),
            ("[kernel]\nby = \"genkernel\"\n", "build.toml:2: ", "kernel.package has to name"),
            ("[initramfs]\nby = \"mkinitcpio\"\n", "build.toml:2: unknown variant", "`dracut`"),
        ];
        for (text, place, message) in cases {
            let error = Build::parse(text).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(message), "{text:?}: {error}");
        }
    }
}
