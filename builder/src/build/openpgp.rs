//! OpenPGP signatures, checked by `gpg` with a keyring of its own for each check.
//!
//! GnuPG rather than a library: it knows which subkeys may sign, what has expired, what was revoked and which digests
//! are too weak; and every Gentoo has it. Nothing of the user's keyring is read or written, and it is not asked whom it
//! trusts: a signature counts if it is good and its primary key is one whose fingerprint the configuration has.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::config::Fingerprint;

/// Keys from files, in a folder that goes with this.
#[derive(Debug)]
pub struct Keyring {
    home: PathBuf,
}

/// Why something is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `gpg` does not run.
    #[error("running gpg; on Gentoo it is in app-crypt/gnupg, on Debian in gnupg")]
    Run(#[source] io::Error),
    /// A file could not be written or read.
    #[error("{doing} {path}")]
    Io {
        /// A gerund.
        doing: &'static str,
        /// Of the file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no keys.
    #[error(
        "there is no key file: tried {}. On Gentoo, emerge sec-keys/openpgp-keys-gentoo-release; elsewhere, save \
         https://qa-reports.gentoo.org/output/service-keys.gpg in config.d/system/keys and name it in sources.keys: whatever is in it, only keys \
         with the fingerprints of the configuration count",
        list(.0)
    )]
    NoKeys(Vec<PathBuf>),
    /// `gpg` does not take a file with keys.
    #[error("{path} has no OpenPGP keys that gpg understands:\n{said}")]
    Import {
        /// Of the file.
        path: PathBuf,
        /// By gpg.
        said: String,
    },
    /// There is no good signature by anybody who may sign.
    #[error("{what} is not signed by {}: {why}", signers(.wanted))]
    Untrusted {
        /// The file.
        what: String,
        /// Those who may sign.
        wanted: Vec<Fingerprint>,
        /// What is wrong with the signature.
        why: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn signers(wanted: &[Fingerprint]) -> String {
    wanted.iter().map(Fingerprint::as_str).collect::<Vec<_>>().join(" or ")
}

impl Keyring {
    /// Reads the files that are there, of which one is enough, into a keyring in the folder `home`. What a killed build left there
    /// is removed.
    ///
    /// # Errors
    /// If none is there, or `gpg` finds no keys in one.
    pub fn load(home: &Path, files: &[PathBuf]) -> Result<Self, Error> {
        let there: Vec<_> = files.iter().filter(|file| file.is_file()).collect();
        if there.is_empty() {
            return Err(Error::NoKeys(files.to_vec()));
        }
        let at = |doing| move |source| Error::Io { doing, path: home.to_owned(), source };
        if home.exists() {
            fs::remove_dir_all(home).map_err(at("removing"))?;
        }
        fs::DirBuilder::new().mode(0o700).create(home).map_err(at("making"))?;
        let ring = Self { home: home.to_owned() };
        for file in there {
            let output = ring.gpg().arg("--import").arg(file).output().map_err(Error::Run)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Error::Import { path: file.clone(), said });
            }
        }
        Ok(ring)
    }

    /// The text that a clearsigned one covers.
    ///
    /// # Errors
    /// If it has no good signature of one of the signers.
    pub fn open_clearsigned(
        &self,
        what: &str,
        signed: &[u8],
        wanted: &[Fingerprint],
    ) -> Result<String, Error> {
        let at = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing, path, source }
        };
        let (input, text) = (self.home.join("signed"), self.home.join("text"));
        fs::write(&input, signed).map_err(at("writing", &input))?;
        let output = self
            .gpg()
            .args(["--yes", "--output"])
            .arg(&text)
            .arg("--verify")
            .arg(&input)
            .output()
            .map_err(Error::Run)?;
        judge(what, &output, wanted)?;
        // gpg writes what the signature covers, so text around it is never seen.
        fs::read_to_string(&text).map_err(at("reading", &text))
    }

    /// Checks a signature in a file of its own.
    ///
    /// # Errors
    /// If it is no good signature of one of the signers over the file.
    pub fn check_detached(
        &self,
        what: &str,
        signature: &Path,
        file: &Path,
        wanted: &[Fingerprint],
    ) -> Result<(), Error> {
        let output = self.gpg().arg("--verify").arg(signature).arg(file).output();
        judge(what, &output.map_err(Error::Run)?, wanted)
    }

    fn gpg(&self) -> Command {
        let mut command = Command::new("gpg");
        command
            .arg("--homedir")
            .arg(&self.home)
            .args(["--batch", "--no-tty", "--no-options", "--no-autostart", "--status-fd", "1"])
            .args(["--trust-model", "always", "--no-auto-key-retrieve", "--no-auto-check-trustdb"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // The next build removes what stays.
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn judge(what: &str, output: &Output, wanted: &[Fingerprint]) -> Result<(), Error> {
    let status = String::from_utf8_lossy(&output.stdout);
    let verdict = verdict(&status, output.status.success(), wanted);
    verdict.map_err(|why| Error::Untrusted {
        what: what.to_owned(),
        wanted: wanted.to_vec(),
        why: format!("{why}; gpg says:\n{}", String::from_utf8_lossy(&output.stderr).trim()),
    })
}

/// What the lines that `--status-fd` gives mean
/// (<https://git.gnupg.org/cgi-bin/gitweb.cgi?p=gnupg.git;a=blob_plain;f=doc/DETAILS>): there must be a good signature of one
/// of the signers, and no line that says anything bad of any signature.
fn verdict(status: &str, success: bool, wanted: &[Fingerprint]) -> Result<(), String> {
    let lines: Vec<Vec<&str>> = status
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] "))
        .map(|line| line.split(' ').collect())
        .collect();
    for line in &lines {
        let bad = match line.first().copied() {
            Some("BADSIG") => "the signature does not fit: the file was changed",
            Some("EXPSIG") => "the signature has expired",
            Some("EXPKEYSIG") => "the key has expired: get its newest version",
            Some("REVKEYSIG") => "the key was revoked",
            Some("ERRSIG") => {
                "its signature cannot be checked: the key is none of those in sources.keys"
            }
            _ => continue,
        };
        return Err(bad.to_owned());
    }
    // The last word of VALIDSIG is the fingerprint of the primary key, the first that of the subkey that signed.
    let mut signed_by = lines
        .iter()
        .filter(|line| line.first() == Some(&"VALIDSIG"))
        .filter_map(|line| line.last().copied());
    let good = lines.iter().any(|line| line.first() == Some(&"GOODSIG"));
    match (success && good, signed_by.clone().next()) {
        (true, Some(_)) if signed_by.any(|f| wanted.iter().any(|w| w.as_str() == f)) => Ok(()),
        (_, Some(other)) if success => Err(format!("the signature is that of {other}")),
        _ => Err("there is no signature".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const A: &str = "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910";
    const B: &str = "534E4209AB49EEE1C19D96162C44695DB9F6043D";

    fn judged(lines: &[&str], success: bool) -> Result<(), String> {
        let status: String = lines.iter().map(|line| format!("[GNUPG:] {line}\n")).collect();
        verdict(&status, success, &[Fingerprint::try_from(A.to_owned()).unwrap()])
    }

    #[test]
    fn only_a_good_signature_of_a_wanted_primary_key_counts() {
        let valid =
            |primary: &str| format!("VALIDSIG {B} 2026-08-11 1786438262 0 4 0 1 10 00 {primary}");
        assert_eq!(judged(&["GOODSIG 2C44695DB9F6043D x", &valid(A)], true), Ok(()));
        let refused: [(&[&str], bool, &str); 9] = [
            (&[], true, "no signature"),
            (&["GOODSIG 2C44695DB9F6043D x"], true, "no signature"),
            (&["GOODSIG 2C44695DB9F6043D x", &valid(B)], true, B),
            (&["GOODSIG 2C44695DB9F6043D x", &valid(A)], false, "no signature"),
            (&[&valid(A)], true, "that of"),
            (&["BADSIG 2C44695DB9F6043D x"], false, "was changed"),
            (&["EXPKEYSIG 2C44695DB9F6043D x", &valid(A)], true, "has expired"),
            (&["REVKEYSIG 2C44695DB9F6043D x", &valid(A)], true, "revoked"),
            (
                &["GOODSIG 2C44695DB9F6043D x", &valid(A), "ERRSIG 2C44695DB9F6043D 1"],
                true,
                "none of those",
            ),
        ];
        for (lines, success, expected) in refused {
            let error = judged(lines, success).unwrap_err();
            assert!(error.contains(expected), "{lines:?}: {error}");
        }
        // What somebody has as a name is no status.
        let name = format!("GOODSIG 2C44695DB9F6043D x\nVALIDSIG {A}");
        assert!(judged(&[&name], true).is_err());
    }
}
