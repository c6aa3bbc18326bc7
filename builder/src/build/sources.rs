//! The files by which Gentoo's mirrors say what there is: the pointer to the latest stage3, and digests.
//!
//! Formats as published in <https://distfiles.gentoo.org/releases/amd64/autobuilds/>. Both are clearsigned;
//! what is parsed here is the text that the signature covers, and nothing else.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

use blake2::Blake2b512;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512 as Sha512Hasher};

/// A SHA-512.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sha512([u8; 64]);

/// A BLAKE2b of 512 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Blake2b([u8; 64]);

/// What was found out about a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// One of two, so that a weakness in one is not enough.
    pub sha512: Sha512,
    /// The other one.
    pub blake2b: Blake2b,
}

/// Where a stage3 is, below the folder of builds: `STAMP/stage3-….tar.xz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Stage3Path(String);

/// The latest stage3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// Where it is.
    pub path: Stage3Path,
    /// Bytes.
    pub size: u64,
}

/// Something in a signed file that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The pointer has no line of the kind.
    #[error("it names no stage3-{flavour}-….tar.xz")]
    NoStage3 {
        /// Architecture and flavour.
        flavour: String,
    },
    /// It has more than one.
    #[error("it names more than one stage3: {0} and {1}")]
    Two(String, String),
    /// A line that cannot be read.
    #[error("this line is no path and size of a stage3: {0:?}")]
    Line(String),
    /// A path that leads elsewhere.
    #[error("{0:?} is no path of a stage3, STAMP/stage3-….tar.xz")]
    Path(String),
    /// A digest is missing.
    #[error("it has no {kind} of {file}")]
    NoDigest {
        /// As the heading of its stanza says.
        kind: &'static str,
        /// Of which there should be one.
        file: String,
    },
    /// Not 128 hexadecimal digits.
    #[error("{0:?} is no digest of 512 bits")]
    Digest(String),
}

impl Sha512 {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha512Hasher::digest(bytes).into())
    }

    /// Of everything that is read.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(reader: impl Read) -> io::Result<Self> {
        Digests::read(reader).map(|digests| digests.sha512)
    }
}

impl Digests {
    /// Of everything that is read.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(mut reader: impl Read) -> io::Result<Self> {
        let (mut sha512, mut blake2b) = (Sha512Hasher::new(), Blake2b512::new());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let bytes = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            sha512.update(bytes);
            blake2b.update(bytes);
        }
        Ok(Self {
            sha512: Sha512(sha512.finalize().into()),
            blake2b: Blake2b(blake2b.finalize().into()),
        })
    }

    /// Those of one file in the text of a `.DIGESTS` file: stanzas of a heading (`# SHA512 HASH`) and lines
    /// like those of `sha512sum`.
    ///
    /// # Errors
    /// If one of the two is missing.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let find = |kind: &'static str| {
            let heading = format!("# {kind} HASH");
            let mut current = "";
            for line in text.lines().map(str::trim_end) {
                if line.starts_with('#') {
                    current = line;
                } else if let Some((digest, name)) = line.split_once("  ")
                    && name == file
                    && current == heading
                {
                    return hex(digest);
                }
            }
            Err(Error::NoDigest { kind, file: file.to_owned() })
        };
        Ok(Self { sha512: Sha512(find("SHA512")?), blake2b: Blake2b(find("BLAKE2B")?) })
    }
}

impl Pointer {
    /// Reads the text of `latest-stage3-FLAVOUR.txt`: comments, and `PATH SIZE`.
    ///
    /// # Errors
    /// If it does not name exactly one stage3 of the flavour.
    pub fn parse(text: &str, flavour: &str) -> Result<Self, Error> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let mut found: Option<Self> = None;
        for line in lines {
            let pointer = Self::parse_line(line)?;
            // The name alone tells `amd64-openrc` from `amd64-desktop-openrc`.
            let stamp = pointer.path.file().strip_prefix(&format!("stage3-{flavour}-"));
            if !stamp.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                continue;
            }
            if let Some(first) = found {
                return Err(Error::Two(first.path.0, pointer.path.0));
            }
            found = Some(pointer);
        }
        found.ok_or_else(|| Error::NoStage3 { flavour: flavour.to_owned() })
    }

    fn parse_line(line: &str) -> Result<Self, Error> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().map(str::parse), words.next()) {
            (Some(path), Some(Ok(size)), None) => Ok(Self { path: path.parse()?, size }),
            _ => Err(Error::Line(line.to_owned())),
        }
    }
}

impl Stage3Path {
    /// The folder of one build, and its file.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, file)| file)
    }
}

impl fmt::Display for Stage3Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Stage3Path {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
        };
        match text.split_once('/') {
            Some((stamp, file))
                if plain(stamp)
                    && plain(file)
                    && file.starts_with("stage3-")
                    && file.ends_with(".tar.xz") =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Error::Path(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Stage3Path {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Stage3Path> for String {
    fn from(path: Stage3Path) -> Self {
        path.0
    }
}

fn hex(text: &str) -> Result<[u8; 64], Error> {
    let wrong = || Error::Digest(text.to_owned());
    if text.len() != 128 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; 64];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Blake2b {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl FromStr for Sha512 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        hex(text).map(Self)
    }
}

impl TryFrom<String> for Sha512 {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Sha512> for String {
    fn from(digest: Sha512) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILE: &str = "stage3-amd64-openrc-20260811T083102Z.tar.xz";

    #[test]
    fn the_pointer_names_the_stage3_of_its_flavour() {
        let text = format!("# Latest as of Tue\n# ts=1\n20260811T083102Z/{FILE} 496363884\n");
        let pointer = Pointer::parse(&text, "amd64-openrc").unwrap();
        assert_eq!(pointer.path.as_str(), format!("20260811T083102Z/{FILE}"));
        assert_eq!((pointer.path.file(), pointer.size), (FILE, 496_363_884));
        let other = text.clone() + "20260811T083102Z/stage3-amd64-openrc-x32-2026.tar.xz 1\n";
        assert_eq!(Pointer::parse(&other, "amd64-openrc").unwrap(), pointer);
    }

    #[test]
    fn a_pointer_that_names_none_two_or_something_else_is_refused() {
        let line = format!("20260811T083102Z/{FILE} 1\n");
        let cases = [
            ("# ts=1\n".to_owned(), "names no stage3-amd64-openrc"),
            (line.clone() + &line, "more than one"),
            (format!("../{FILE} 1\n"), "no path of a stage3"),
            (format!("a/b/{FILE} 1\n"), "no path of a stage3"),
            (format!("/etc/{FILE} 1\n"), "no path of a stage3"),
            ("x/stage4-amd64.tar.xz 1\n".to_owned(), "no path of a stage3"),
            (format!("x/{FILE}\n"), "no path and size"),
            (format!("x/{FILE} 1 2\n"), "no path and size"),
            (format!("x/{FILE} -1\n"), "no path and size"),
        ];
        for (text, expected) in cases {
            let error = Pointer::parse(&text, "amd64-openrc").unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn both_digests_of_a_file_are_needed() {
        let digests = Digests::read(&b"abc"[..]).unwrap();
        let (sha, blake) = (digests.sha512, format!("{:?}", digests.blake2b));
        let text = format!(
            "# BLAKE2B HASH\n{blake}  {FILE}\n# SHA512 HASH\n{sha}  {FILE}\n# SHA512 HASH\n{:0>128}  {FILE}.CONTENTS.gz\n",
            0
        );
        assert_eq!(Digests::parse(&text, FILE).unwrap(), digests);
        for missing in ["# BLAKE2B HASH", "# SHA512 HASH"] {
            let text = text.replace(missing, "# WHIRLPOOL HASH");
            assert!(matches!(Digests::parse(&text, FILE), Err(Error::NoDigest { .. })));
        }
        let short = text.replace(&sha.to_string(), "abc");
        assert_eq!(Digests::parse(&short, FILE), Err(Error::Digest("abc".to_owned())));
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        // https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values, RFC 7693 appendix A
        let digests = Digests::read(&b"abc"[..]).unwrap();
        assert!(digests.sha512.to_string().starts_with("ddaf35a193617abacc417349ae204131"));
        assert!(format!("{:?}", digests.blake2b).starts_with("ba80a53f981c4d0d6a2797b69f12f6e9"));
        assert_eq!(digests.sha512.to_string().parse::<Sha512>().unwrap(), digests.sha512);
    }
}
