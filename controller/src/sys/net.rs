//! Packet sockets: IPv4 on a link that has no address yet.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    ptr,
};

use nix::libc;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
    bind, recv, sendto, socket_with,
};

/// What the kernel hands over before it would be read; what is more is lost.
const FILTER_ACCEPT: u32 = u32::MAX;

/// Sends and receives IPv4 packets on one link, whatever address it has or has not: packet(7).
///
/// It sees those UDP packets alone that are for the port it was opened with, and never blocks.
pub struct PacketSocket {
    socket: OwnedFd,
    broadcast: LinkAddress,
}

impl PacketSocket {
    /// Opens a socket on the Ethernet link with this index, for UDP packets to `port`.
    pub fn open(link: u32, port: u16) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol nothing arrives until the filter is in place and the link is bound.
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        attach_filter(&socket, port)?;
        let index = i32::try_from(link).map_err(|_| io::ErrorKind::InvalidInput)?;
        let broadcast = LinkAddress { index, hardware: [0xff; 6] };
        bind(&socket, &broadcast)?;
        Ok(Self { socket, broadcast })
    }

    /// Sends an IPv4 packet, with its header, to all stations of the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        sendto(&self.socket, packet, SendFlags::empty(), &self.broadcast)?;
        Ok(())
    }

    /// The next IPv4 packet, with its header; how many bytes of `buffer` it takes.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = recv(&self.socket, buffer, RecvFlags::empty())?;
        Ok(length)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An Ethernet station, for IPv4.
struct LinkAddress {
    index: i32,
    hardware: [u8; 6],
}

// SAFETY: `call` gets a pointer to a complete `sockaddr_ll`, which lives until it returns, and its size.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let [a, b, c, d, e, f] = self.hardware;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_IP as u16).to_be(),
            sll_ifindex: self.index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [a, b, c, d, e, f, 0, 0],
        };
        call(ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>() as SocketAddrLen)
    }
}

/// Has the kernel drop all but UDP to `port`: on a lab's network, disk images may be on their way to
/// other machines. Classic BPF, as in <https://docs.kernel.org/networking/filter.html>; a packet
/// begins with its IPv4 header here.
fn attach_filter(socket: &OwnedFd, port: u16) -> io::Result<()> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load_byte = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    let load_half = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    let load_half_after_header = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
    let header_length = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any_bit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let mut program = [
        op(load_byte, 0, 0, 9),                    // protocol …
        op(equal, 0, 6, libc::IPPROTO_UDP as u32), // … UDP
        op(load_half, 0, 0, 6),                    // fragment offset …
        op(any_bit, 4, 0, 0x1fff),                 // … none
        op(header_length, 0, 0, 0),
        op(load_half_after_header, 0, 0, 2), // destination port …
        op(equal, 0, 1, u32::from(port)),    // … ours
        op(give, 0, 0, FILTER_ACCEPT),
        op(give, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until the call is over, and reads as many
    // bytes of `sock_fprog` as it is told.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
