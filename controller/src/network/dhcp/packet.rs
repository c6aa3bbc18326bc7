//! The IPv4 and UDP headers around a DHCP message (RFC 791, RFC 768).
//!
//! A machine without an address has to make and read them itself.

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const TTL: u8 = 64;

/// Relays drop messages that are shorter than BOOTP's (RFC 1542, 2.1).
const SHORTEST: usize = 300;

/// Puts a client's message into a packet from nowhere to everybody.
pub(super) fn wrap(mut payload: Vec<u8>) -> Vec<u8> {
    if payload.len() < SHORTEST {
        payload.resize(SHORTEST, 0);
    }
    let udp_length = ((UDP_HEADER + payload.len()) as u16).to_be_bytes();
    let addresses = [0, 0, 0, 0, 255, 255, 255, 255];

    let mut udp = Vec::with_capacity(UDP_HEADER + payload.len());
    udp.extend_from_slice(&CLIENT_PORT.to_be_bytes());
    udp.extend_from_slice(&SERVER_PORT.to_be_bytes());
    udp.extend_from_slice(&udp_length);
    let pseudo_header = sum(&addresses) + u64::from(UDP) + sum(&udp_length);
    // A checksum of 0 means that there is none.
    let checksum = match finish(pseudo_header + sum(&udp) + sum(&payload)) {
        0 => u16::MAX,
        other => other,
    };
    udp.extend_from_slice(&checksum.to_be_bytes());
    udp.append(&mut payload);

    let [high, low] = ((IP_HEADER + udp.len()) as u16).to_be_bytes();
    let front = [0x45, 0, high, low, 0, 0, 0, 0, TTL, UDP];
    let mut packet = front.to_vec();
    packet.extend_from_slice(&finish(sum(&front) + sum(&addresses)).to_be_bytes());
    packet.extend_from_slice(&addresses);
    packet.append(&mut udp);
    packet
}

/// The message in a packet, if it is one whole UDP packet from a server to a client.
///
/// The UDP checksum is not looked at: where server and client share a machine, or the card computes
/// it, it is not there yet.
pub(super) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header_length = usize::from(first & 15) * 4;
    let header = packet.get(..header_length)?;
    let length = usize::from(number(header, 2)?);
    let whole = number(header, 6)? & 0x3fff == 0;
    let sound = first >> 4 == 4 && header_length >= IP_HEADER && finish(sum(header)) == 0;
    if !sound || !whole || header.get(9) != Some(&UDP) {
        return None;
    }
    // A short frame is padded: the header's length counts.
    let udp = packet.get(header_length..length)?;
    if number(udp, 0)? != SERVER_PORT || number(udp, 2)? != CLIENT_PORT {
        return None;
    }
    udp.get(UDP_HEADER..usize::from(number(udp, 4)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// RFC 1071: the sum of sixteen-bit words …
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .zip([8, 0].into_iter().cycle())
        .map(|(byte, shift)| u64::from(*byte) << shift)
        .sum()
}

/// … folded and negated.
fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What a server sends: our own packet with the ports the other way round.
    pub(crate) fn as_server(mut packet: Vec<u8>) -> Vec<u8> {
        packet.get_mut(20..24).unwrap().rotate_left(2);
        packet
    }

    #[test]
    fn a_packet_holds_what_was_put_into_it() {
        let payload: Vec<u8> = (0..=255).cycle().take(311).collect();
        let packet = wrap(payload.clone());
        assert_eq!(unwrap(&packet), None, "it is not from a server");
        let udp = packet.get(20..).unwrap();
        let pseudo = sum(packet.get(12..20).unwrap()) + 17 + udp.len() as u64;
        assert_eq!(finish(pseudo + sum(udp)), 0, "checksum");
        let mut packet = as_server(packet);
        packet.extend_from_slice(&[0; 9]);
        assert_eq!(unwrap(&packet), Some(payload.as_slice()), "with the frame's padding");
    }

    #[test]
    fn what_is_no_dhcp_packet_is_ignored() {
        let good = as_server(wrap(vec![7; 400]));
        for length in 0..good.len() {
            assert_eq!(unwrap(good.get(..length).unwrap()), None, "cut to {length}");
        }
        for (at, byte) in
            [(0, 0x65), (0, 0x44), (6, 0x20), (9, 6), (10, 0xff), (21, 80), (23, 80), (24, 9)]
        {
            let mut bad = good.clone();
            *bad.get_mut(at).unwrap() = byte;
            assert_eq!(unwrap(&bad), None, "byte {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_received(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            unwrap(&bytes);
        }
    }
}
