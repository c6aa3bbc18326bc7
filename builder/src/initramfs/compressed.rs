//! Files that a distribution keeps compressed: kernel modules and firmware.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use super::Error;

/// How a file is compressed, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    /// The ends of names, the plain one first.
    pub(super) const ALL: [(Self, &'static str); 4] =
        [(Self::None, ""), (Self::Zstd, ".zst"), (Self::Xz, ".xz"), (Self::Gzip, ".gz")];

    /// The name without the end that says how it is compressed.
    pub(super) fn split(name: &str) -> (&str, Self) {
        for (compression, end) in Self::ALL.into_iter().skip(1) {
            if let Some(plain) = name.strip_suffix(end) {
                return (plain, compression);
            }
        }
        (name, Self::None)
    }

    /// The content.
    pub(super) fn decode(self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match self {
            Self::None => return Ok(bytes),
            Self::Gzip => {
                flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)
            }
            Self::Xz => liblzma::read::XzDecoder::new_multi_decoder(bytes.as_slice())
                .read_to_end(&mut plain),
            Self::Zstd => {
                zstd::stream::copy_decode(bytes.as_slice(), &mut plain)?;
                Ok(0)
            }
        }?;
        Ok(plain)
    }
}

/// Reads a file that is compressed as its name says.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(path).map_err(Error::io("reading", path))?;
    let (_, compression) = Compression::split(path.to_str().unwrap_or_default());
    compression.decode(bytes).map_err(|e| Error::damaged(path, e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_compression_gives_the_content_back() {
        let content = b"firmware ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&content).unwrap();
        let cases = [
            ("a.bin", content.clone()),
            ("a.bin.gz", gzip.finish().unwrap()),
            ("a.bin.xz", xz.finish().unwrap()),
            ("a.bin.zst", zstd::encode_all(content.as_slice(), 1).unwrap()),
        ];
        for (name, bytes) in cases {
            let (plain, compression) = Compression::split(name);
            assert_eq!(plain, "a.bin");
            assert_eq!(compression.decode(bytes).unwrap(), content, "{name}");
        }
    }

    #[test]
    fn a_cut_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        for (compression, end) in Compression::ALL.into_iter().skip(1) {
            let path = directory.path().join(format!("a.ko{end}"));
            fs::write(&path, b"\x7fELF").unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(
                error.contains("a.ko") && error.contains("damaged"),
                "{compression:?}: {error}"
            );
        }
    }
}
