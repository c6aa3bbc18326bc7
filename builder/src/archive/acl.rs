//! POSIX ACLs, from the kernel's extended attribute to the text that tar carries.
//!
//! `tar --acls` and bsdtar read the records `SCHILY.acl.access` and `SCHILY.acl.default`, which star
//! introduced; the kernel's form is `struct posix_acl_xattr_entry` in
//! <https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/posix_acl_xattr.h>.

use std::fmt::Write as _;

const VERSION: u32 = 2;

/// The record for an extended attribute that holds an ACL.
pub(super) fn record_name(xattr: &[u8]) -> Option<&'static str> {
    match xattr {
        b"system.posix_acl_access" => Some("SCHILY.acl.access"),
        b"system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    }
}

/// The attribute's value as text with numeric ids: `user::rwx,user:1000:r-x,group::r-x,…`.
pub(super) fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let (tag, rest) = entry.split_first_chunk::<2>()?;
        let (bits, id) = rest.split_first_chunk::<2>()?;
        let id = u32::from_le_bytes(id.try_into().ok()?);
        let bits = u16::from_le_bytes(*bits);
        if !text.is_empty() {
            text.push(',');
        }
        match u16::from_le_bytes(*tag) {
            0x01 => text.push_str("user::"),
            0x02 => write!(text, "user:{id}:").ok()?,
            0x04 => text.push_str("group::"),
            0x08 => write!(text, "group:{id}:").ok()?,
            0x10 => text.push_str("mask::"),
            0x20 => text.push_str("other::"),
            _ => return None,
        }
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if bits & bit != 0 { letter } else { '-' });
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_becomes_the_text_that_setfacl_takes() {
        let value = b"\x02\0\0\0\
            \x01\0\x07\0\xff\xff\xff\xff\
            \x02\0\x05\0\xe8\x03\0\0\
            \x04\0\x04\0\xff\xff\xff\xff\
            \x08\0\x02\0\x64\0\0\0\
            \x10\0\x07\0\xff\xff\xff\xff\
            \x20\0\0\0\xff\xff\xff\xff";
        let text = "user::rwx,user:1000:r-x,group::r--,group:100:-w-,mask::rwx,other::---";
        assert_eq!(to_text(value).as_deref(), Some(text));
    }

    #[test]
    fn what_is_no_acl_has_no_text() {
        let cases: [&[u8]; 4] = [
            b"",
            b"\x01\0\0\0",
            b"\x02\0\0\0\x01\0\x07",
            b"\x02\0\0\0\x40\0\x07\0\xff\xff\xff\xff",
        ];
        for value in cases {
            assert_eq!(to_text(value), None, "{value:?}");
        }
    }
}
