#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use dhcproto::{Decodable as _, Decoder, v4::Opcode};
use proptest::prelude::*;

use super::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 7]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn start() -> Exchange {
    Exchange::new(MAC, 42, Duration::ZERO)
}

/// What the client sends, without its headers.
fn sent(packet: &[u8]) -> v4::Message {
    v4::Message::decode(&mut Decoder::new(&packet[28..])).unwrap()
}

/// A server's packet in answer to `question`.
fn answer(question: &v4::Message, kind: MessageType, server: Ipv4Addr) -> Vec<u8> {
    let mut reply = question.clone();
    reply.set_opcode(Opcode::BootReply).set_yiaddr(Ipv4Addr::new(10, 0, 0, 9));
    let options = reply.opts_mut();
    options.clear();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(server));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    let mut packet = packet::wrap(reply.to_vec().unwrap());
    packet[20..24].rotate_left(2);
    packet
}

#[test]
fn questions_are_repeated_at_growing_distances() {
    let mut exchange = start();
    let mut times = Vec::new();
    while times.len() < 8 {
        let now = exchange.next();
        let message = sent(&exchange.due(now).unwrap());
        assert_eq!(message.opts().msg_type(), Some(MessageType::Discover));
        assert_eq!(u64::from(message.secs()), now.as_secs());
        assert_eq!((message.opcode(), message.htype()), (Opcode::BootRequest, v4::HType::Eth));
        assert_eq!((message.chaddr(), message.flags().broadcast()), (&MAC.0[..], true));
        assert!(message.yiaddr().is_unspecified() && message.sname().is_none());
        assert!(exchange.due(now).is_none(), "once is enough");
        times.push(now);
    }
    let waits: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
    for (wait, nominal) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]) {
        assert!((wait - nominal).abs() <= nominal / 4.0 + 0.001, "{waits:?}");
    }
    assert_eq!(exchange.summary(), "asked 8 times, no answer");
    let other = Exchange::new(MAC, 43, Duration::ZERO);
    assert_ne!(other.transaction, exchange.transaction);
}

#[test]
fn an_offer_is_requested_at_once_and_given_up_after_a_while() {
    let mut exchange = start();
    let question = sent(&exchange.due(Duration::ZERO).unwrap());
    let now = Duration::from_millis(3);
    let offer = answer(&question, MessageType::Offer, SERVER);
    assert_eq!(exchange.receive(&offer, now), Heard::Offer);
    for _ in 0..REQUESTS {
        let request = sent(&exchange.due(exchange.next()).unwrap());
        assert_eq!(request.xid(), question.xid());
        let options = request.opts();
        assert_eq!(options.msg_type(), Some(MessageType::Request));
        let expected = DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(options.get(OptionCode::RequestedIpAddress), Some(&expected));
        let expected = DhcpOption::ServerIdentifier(SERVER);
        assert_eq!(options.get(OptionCode::ServerIdentifier), Some(&expected));
    }
    let again = sent(&exchange.due(exchange.next()).unwrap());
    assert_eq!(again.opts().msg_type(), Some(MessageType::Discover));
    assert_ne!(again.xid(), question.xid(), "late replies do not count");
    assert_eq!(exchange.receive(&offer, now), Heard::Nothing);
}

#[test]
fn only_the_chosen_server_can_confirm_or_refuse() {
    let other = Ipv4Addr::new(10, 0, 0, 2);
    for (kind, expected) in [(MessageType::Ack, "lease"), (MessageType::Nak, "refusal")] {
        let mut exchange = start();
        let question = sent(&exchange.due(Duration::ZERO).unwrap());
        assert_eq!(
            exchange.receive(&answer(&question, kind, SERVER), Duration::ZERO),
            Heard::Nothing
        );
        exchange.receive(&answer(&question, MessageType::Offer, SERVER), Duration::ZERO);
        let request = sent(&exchange.due(Duration::ZERO).unwrap());
        assert_eq!(
            exchange.receive(&answer(&request, kind, other), Duration::ZERO),
            Heard::Nothing
        );
        match exchange.receive(&answer(&request, kind, SERVER), Duration::ZERO) {
            Heard::Lease(settings) => {
                assert_eq!(
                    (expected, settings.address.to_string()),
                    ("lease", "10.0.0.9/24".to_owned())
                );
            }
            heard => {
                assert_eq!((expected, heard), ("refusal", Heard::Refusal));
                assert!(
                    exchange.due(Duration::from_millis(700)).is_none(),
                    "a refusal is no reason to hurry"
                );
                let again = sent(&exchange.due(Duration::from_secs(2)).unwrap());
                assert_eq!(again.opts().msg_type(), Some(MessageType::Discover));
            }
        }
    }
}

proptest! {
    /// What a network can send: a good packet with bytes changed, cut, or anything at all as options.
    #[test]
    fn no_packet_is_too_bad_to_be_received(
        changes in prop::collection::vec((28usize..330, any::<u8>()), 0..24),
        options in prop::collection::vec(any::<u8>(), 0..90),
        cut in 0usize..330,
    ) {
        let mut exchange = start();
        let question = sent(&exchange.due(Duration::ZERO).unwrap());
        let good = answer(&question, MessageType::Offer, SERVER);
        let mut bad = good.clone();
        for (at, byte) in changes {
            if let Some(b) = bad.get_mut(at) {
                *b = byte;
            }
        }
        exchange.receive(&bad, Duration::ZERO);
        exchange.receive(&bad[..cut.min(bad.len())], Duration::ZERO);
        let mut odd = good;
        let options_start = 28 + 240;
        for (to, from) in odd[options_start..].iter_mut().zip(options) {
            *to = from;
        }
        exchange.receive(&odd, Duration::ZERO);
    }
}
