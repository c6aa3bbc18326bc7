//! DHCP servers that do what a good one does not.

use std::net::{Ipv4Addr, UdpSocket};

use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{DhcpOption, Message, MessageType, Opcode, OptionCode},
};

/// Offers, refuses, offers again, confirms.
pub(crate) fn refuse_once(socket: &UdpSocket, server: Ipv4Addr) {
    let mut refused = false;
    loop {
        let question = receive(socket);
        match kind(&question) {
            MessageType::Discover => send(socket, &reply(&question, server, MessageType::Offer)),
            MessageType::Request if !refused => {
                refused = true;
                // First a refusal by another server, which has no say in this.
                let other = Ipv4Addr::from(u32::from(server) + 1);
                send(socket, &reply(&question, other, MessageType::Nak));
                send(socket, &reply(&question, server, MessageType::Nak));
            }
            _ => return send(socket, &reply(&question, server, MessageType::Ack)),
        }
    }
}

/// Answers each question with many wrong replies, and the right one last.
pub(crate) fn lie_first(socket: &UdpSocket, server: Ipv4Addr) {
    loop {
        let question = receive(socket);
        let (wrong, right) = match kind(&question) {
            MessageType::Discover => (MessageType::Ack, MessageType::Offer),
            _ => (MessageType::Offer, MessageType::Ack),
        };
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut reply = reply(&question, server, right);
            reply.set_yiaddr(Ipv4Addr::from(u32::from(server) + 65));
            change(&mut reply);
            reply
        };
        send(socket, &reply(&question, Ipv4Addr::from(u32::from(server) + 1), wrong));
        send(
            socket,
            &changed(&|reply| {
                reply.set_xid(question.xid() ^ 1);
            }),
        );
        send(
            socket,
            &changed(&|reply| {
                reply.set_chaddr(&[2, 0, 0, 0, 0, 1]);
            }),
        );
        send(
            socket,
            &changed(&|reply| {
                reply.set_opcode(Opcode::BootRequest);
            }),
        );
        for address in
            ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1", "10.77.5.0", "10.77.5.255"]
        {
            send(
                socket,
                &changed(&|reply| {
                    reply.set_yiaddr(address.parse::<Ipv4Addr>().unwrap());
                }),
            );
        }
        send(
            socket,
            &changed(&|reply| {
                reply.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)));
            }),
        );
        let good = reply(&question, server, right);
        let bytes = good.to_vec().unwrap();
        for length in [0, 1, 100, 239, 241] {
            socket.send_to(&bytes[..length], "255.255.255.255:68").unwrap();
        }
        send(socket, &good);
        if right == MessageType::Ack {
            return;
        }
    }
}

fn receive(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    assert!(length >= 300, "a relay would drop {length} bytes");
    Message::decode(&mut Decoder::new(&buffer[..length])).unwrap()
}

fn kind(message: &Message) -> MessageType {
    match message.opts().get(OptionCode::MessageType) {
        Some(DhcpOption::MessageType(kind)) => *kind,
        other => panic!("a message without a type: {other:?}"),
    }
}

fn reply(question: &Message, server: Ipv4Addr, kind: MessageType) -> Message {
    let mut reply = question.clone();
    reply.set_opcode(Opcode::BootReply).set_yiaddr(Ipv4Addr::from(u32::from(server) + 59));
    let options = reply.opts_mut();
    options.clear();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(server));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    options.insert(DhcpOption::Router(vec![server]));
    options.insert(DhcpOption::Hostname("pc\nnameserver 6.6.6.6".to_owned()));
    reply
}

fn send(socket: &UdpSocket, message: &Message) {
    socket.send_to(&message.to_vec().unwrap(), "255.255.255.255:68").unwrap();
}
