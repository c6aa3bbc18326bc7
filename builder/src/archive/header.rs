//! What stands before an entry's data in the tar: its ustar header, the PAX records for whatever that
//! cannot hold, and the map of a sparse file.
//!
//! Sources: POSIX.1-2017, `pax`, "pax Interchange Format"; for sparse files format 1.0 of
//! <https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html>; for attributes and ACLs
//! the `SCHILY.` records of star, as GNU tar writes them.

use std::io::Write as _;

use gse_protocol::index::{Content, Entry, Kind, Time};
use tar::{EntryType, Header};

use super::acl;

/// The unit of a tar, in bytes.
pub(super) const BLOCK: u64 = 512;
/// Two empty blocks end a tar.
pub(super) const TRAILER: u64 = 2 * BLOCK;

const NAME: usize = 100;
/// What eleven octal digits hold: the size field, and with a time, the year 2242.
const ELEVEN_DIGITS: u64 = 0o777_7777_7777;
/// What seven octal digits hold: the fields of owner and group.
const SEVEN_DIGITS: u32 = 0o777_7777;

/// `length` rounded up to whole blocks.
pub(super) fn padded(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

/// Appends all that stands before the data of `entry`, a multiple of [`BLOCK`]. `original` is the
/// entry that a hard link is another name of. The error says why the entry fits no tar.
pub(super) fn write(
    out: &mut Vec<u8>,
    entry: &Entry,
    original: Option<&Entry>,
) -> Result<(), String> {
    // A hard link's own entry has no attributes. Some readers apply those of the header all the same.
    let attributes = original.unwrap_or(entry);
    let mut header = Header::new_ustar();
    let mut records = Vec::new();
    let name = member_name(entry);

    header.set_mode(attributes.mode);
    // Beyond their octal digits the numeric fields are base-256, which most readers know; the PAX
    // records are for those that do not.
    header.set_uid(attributes.uid.into());
    header.set_gid(attributes.gid.into());
    for (key, id) in [("uid", attributes.uid), ("gid", attributes.gid)] {
        if id > SEVEN_DIGITS {
            record(&mut records, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    match u64::try_from(attributes.mtime.seconds) {
        Ok(seconds) if seconds <= ELEVEN_DIGITS => header.set_mtime(seconds),
        _ => header.set_mtime(0),
    }
    if let Some(text) = pax_time(attributes.mtime) {
        record(&mut records, b"mtime", text.as_bytes());
    }

    header.set_size(0);
    header.set_entry_type(match &entry.kind {
        Kind::Directory => EntryType::Directory,
        Kind::File(_) => EntryType::Regular,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::Hardlink(_) => EntryType::Link,
        Kind::CharDevice(..) => EntryType::Char,
        Kind::BlockDevice(..) => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    });
    let mut map = Vec::new();
    match &entry.kind {
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            let failed = |e: std::io::Error| format!("has a device number that fits no tar ({e})");
            header.set_device_major(*major).map_err(failed)?;
            header.set_device_minor(*minor).map_err(failed)?;
        }
        Kind::Symlink(target) => set_link(&mut header, &mut records, target),
        Kind::Hardlink(_) => {
            let target = original.ok_or("is a link to nothing")?;
            set_link(&mut header, &mut records, &member_name(target));
        }
        Kind::File(content) => {
            if content.extents.is_some() {
                map = sparse_map(content);
                record(&mut records, b"GNU.sparse.major", b"1");
                record(&mut records, b"GNU.sparse.minor", b"0");
                record(&mut records, b"GNU.sparse.name", &name);
                record(&mut records, b"GNU.sparse.realsize", content.size.to_string().as_bytes());
            }
            let size = map.len() as u64 + content.stored();
            header.set_size(size);
            if size > ELEVEN_DIGITS {
                record(&mut records, b"size", size.to_string().as_bytes());
            }
        }
        Kind::Directory | Kind::Fifo => {}
    }
    if map.is_empty() {
        set_name(&mut header, &name);
        if name.len() > NAME {
            record(&mut records, b"path", &name);
        }
    } else {
        // The name for readers that do not know the format, so that they cannot take the packed
        // data for the file itself; GNU tar's own choice.
        set_name(&mut header, b"./GNUSparseFile.0");
    }
    for xattr in &entry.xattrs {
        match acl::record_name(&xattr.name) {
            Some(key) => {
                let text = acl::to_text(&xattr.value).ok_or("has an ACL of an unknown form")?;
                record(&mut records, key.as_bytes(), text.as_bytes());
            }
            None => record(&mut records, &xattr_key(&xattr.name), &xattr.value),
        }
    }

    if !records.is_empty() {
        let mut extended = Header::new_ustar();
        extended.set_entry_type(EntryType::XHeader);
        set_name(&mut extended, b"./PaxHeaders");
        extended.set_mode(0o644);
        extended.set_uid(0);
        extended.set_gid(0);
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        out.extend_from_slice(extended.as_bytes());
        append_padded(out, &records);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&map);
    Ok(())
}

/// `./path`, with a slash after a directory's: the names of a stage3.
fn member_name(entry: &Entry) -> Vec<u8> {
    let mut name = [b"./", entry.path.as_slice()].concat();
    if entry.kind == Kind::Directory && !entry.path.is_empty() {
        name.push(b'/');
    }
    name
}

fn set_name(header: &mut Header, name: &[u8]) {
    header.as_old_mut().name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
}

fn set_link(header: &mut Header, records: &mut Vec<u8>, target: &[u8]) {
    header.as_old_mut().linkname.iter_mut().zip(target).for_each(|(to, from)| *to = *from);
    if target.len() > NAME {
        record(records, b"linkpath", target);
    }
}

/// One PAX record: its own length in decimal, a space, `key=value` and a newline. Not the tar crate's
/// writer, as that takes only keys that are UTF-8, which the name of an attribute need not be.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut length = rest + digits(rest);
    length = rest + digits(length);
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A key ends at the first `=`, so GNU tar writes it in a name as `%3D`, and `%` as `%25`.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            _ => key.push(*byte),
        }
    }
    key
}

/// The time as a decimal number, where the header's whole seconds since 1970 do not do.
fn pax_time(time: Time) -> Option<String> {
    let fits = u64::try_from(time.seconds).is_ok_and(|s| s <= ELEVEN_DIGITS);
    if fits && time.nanoseconds == 0 {
        return None;
    }
    // Half a second before 1970 is -1 s and 500,000,000 ns, and written -0.5.
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (whole, fraction) =
        (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let sign = if total < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction:09}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// How many parts there are, and each one's offset and length; a last, empty one tells the size of a
/// file that ends in a hole.
fn sparse_map(content: &Content) -> Vec<u8> {
    let extents = content.extents.as_deref().unwrap_or_default();
    let end = extents.last().map_or(0, |e| e.offset + e.length);
    let tail = (end < content.size || extents.is_empty()).then_some((content.size, 0));
    let parts = extents.iter().map(|e| (e.offset, e.length)).chain(tail);
    let mut map = format!("{}\n", extents.len() + usize::from(tail.is_some())).into_bytes();
    for (offset, length) in parts {
        // Writing to a Vec cannot fail.
        let _ = write!(map, "{offset}\n{length}\n");
    }
    let mut blocks = Vec::new();
    append_padded(&mut blocks, &map);
    blocks
}

fn append_padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    let fill = padded(bytes.len() as u64) as usize - bytes.len();
    out.resize(out.len() + fill, 0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let mut out = Vec::new();
        record(&mut out, b"path", b"x");
        assert_eq!(out, b"9 path=x\n");
        for length in 0..2000 {
            out.clear();
            record(&mut out, b"k", &vec![b'v'; length]);
            let text = String::from_utf8(out.clone()).unwrap();
            let (number, _) = text.split_once(' ').unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), out.len());
        }
    }

    #[test]
    fn times_that_the_header_cannot_hold_are_written_as_decimal_numbers() {
        for (seconds, nanoseconds, text) in [
            (0, 0, None),
            (8_589_934_591, 0, None),
            (8_589_934_592, 0, Some("8589934592")),
            (1, 1, Some("1.000000001")),
            (1, 500_000_000, Some("1.5")),
            (-1, 500_000_000, Some("-0.5")),
            (-2, 0, Some("-2")),
            (-10, 999_999_999, Some("-9.000000001")),
        ] {
            let time = Time { seconds, nanoseconds };
            assert_eq!(pax_time(time).as_deref(), text, "{time:?}");
        }
    }

    #[test]
    fn a_file_over_eight_gib_has_its_size_in_a_record_and_in_the_header() {
        let size = 9 << 30;
        let content =
            Content { size, offset: 0, sha256: gse_protocol::Sha256::of(b""), extents: None };
        let entry = Entry {
            path: b"big".to_vec(),
            kind: Kind::File(content),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        let mut out = Vec::new();
        write(&mut out, &entry, None).unwrap();
        let records = tar::PaxExtensions::new(&out[512..1024]);
        let sizes: Vec<_> = records
            .map_while(Result::ok)
            .filter(|r| r.key() == Ok("size"))
            .map(|r| r.value().unwrap().to_owned())
            .collect();
        assert_eq!(sizes, [size.to_string()]);
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&out[1024..]);
        assert_eq!(header.entry_size().unwrap(), size);
    }
}
