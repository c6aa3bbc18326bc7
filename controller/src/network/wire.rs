//! rtnetlink messages as bytes: rtnetlink(7), netlink(7), `include/uapi/linux/{netlink,rtnetlink}.h`.
//!
//! Numbers are in the machine's byte order; headers and attributes are padded to four bytes.

/// Bytes of a message before its payload: length, type, flags, sequence, port.
const HEADER: usize = 16;
const PADDING: usize = 4;

/// This is a request.
const REQUEST: u16 = 1;
/// Success is to be told too.
const ACK: u16 = 4;
/// All there are.
const DUMP: u16 = 0x300;
/// Write over what is there.
const REPLACE: u16 = 0x100;
/// Make what is not there.
const CREATE: u16 = 0x400;

/// `NLMSG_ERROR`: also an acknowledgement, when its number is 0.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub(super) const DONE: u16 = 3;

/// A message on its way to the kernel.
pub(super) struct Request {
    bytes: Vec<u8>,
    flags: u16,
    kind: u16,
}

impl Request {
    /// Asks for all objects of a kind.
    pub(super) fn dump(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, REQUEST | DUMP, fixed)
    }

    /// Changes something that is there.
    pub(super) fn change(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, REQUEST | ACK, fixed)
    }

    /// Makes something, or writes over it.
    pub(super) fn put(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, REQUEST | ACK | CREATE | REPLACE, fixed)
    }

    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(fixed);
        Self { bytes, flags, kind }
    }

    /// Adds an attribute. Those that the controller sends have a few bytes each.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.pad();
        let length = (PADDING + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// The bytes to send.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        self.pad();
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&(self.bytes.len() as u32).to_ne_bytes());
        header.extend_from_slice(&self.kind.to_ne_bytes());
        header.extend_from_slice(&self.flags.to_ne_bytes());
        header.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.iter_mut().zip(header).for_each(|(to, from)| *to = from);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(PADDING), 0);
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'m> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'m [u8],
}

/// The messages of a datagram, up to the first that is cut.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = number32(bytes, 0)? as usize;
        let kind = number16(bytes, 4)?;
        let sequence = number32(bytes, 8)?;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(PADDING)..).unwrap_or_default();
        Some(Message { kind, sequence, payload })
    })
}

/// The attributes in bytes that follow a fixed part, with their types.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are flags in the type.
    const KIND: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(number16(bytes, 0)?);
        let kind = number16(bytes, 2)? & KIND;
        let value = bytes.get(PADDING..length)?;
        bytes = bytes.get(length.next_multiple_of(PADDING)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(super) fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// An attribute that is text, with or without its NUL.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_made() {
        let bytes = Request::change(20, &[1, 2, 3, 4]).with(3, b"eth0\0").with(1, &[9]).finish(7);
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.sequence), (20, 7));
        let (fixed, rest) = message.payload.split_at(4);
        assert_eq!(fixed, [1, 2, 3, 4]);
        let all: Vec<_> = attributes(rest).collect();
        assert_eq!(all, [(3, b"eth0\0".as_slice()), (1, &[9])]);
        assert_eq!(text(b"eth0\0"), "eth0");
    }

    #[test]
    fn cut_bytes_end_the_reading() {
        let bytes = Request::dump(18, &[0; 16]).with(3, b"eth0").finish(1);
        for length in 0..bytes.len() {
            assert_eq!(messages(bytes.get(..length).unwrap()).count(), 0);
        }
        assert_eq!(attributes(&[2, 0, 0, 0, 4, 0, 0, 0]).count(), 0, "shorter than its own head");
        assert_eq!(messages(&[0; 16]).count(), 0);
    }
}
