//! A network link as the kernel describes it.

use std::fmt;

use nix::libc;

use super::wire::{attributes, number16, number32, text};

// From include/uapi/linux/if_link.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// `struct ifinfomsg`
const FIXED: usize = 16;

/// A link, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Mac,
    /// The administrator (or the controller) has switched it on.
    pub(super) up: bool,
    /// There is somebody at the other end.
    pub(super) carrier: bool,
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mac(pub(super) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Link {
    /// Reads the payload of an `RTM_NEWLINK` message. `None` for what cannot carry the machine's own
    /// address: the loopback, links of other types than Ethernet, and those that software makes of
    /// others (bridges, bonds, VLANs) or that belong to one. Virtual cables are taken.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let kind = number16(payload, 2)?;
        let index = number32(payload, 4)?;
        let flags = number32(payload, 8)?;
        if kind != libc::ARPHRD_ETHER || flags & libc::IFF_LOOPBACK as u32 != 0 {
            return None;
        }
        let (mut name, mut mac, mut made_by) = (None, None, None);
        for (kind, value) in attributes(payload.get(FIXED..)?) {
            match kind {
                IFLA_IFNAME => name = Some(text(value)),
                IFLA_ADDRESS => mac = value.first_chunk().copied().map(Mac),
                IFLA_MASTER => return None,
                IFLA_LINKINFO => {
                    let mut info = attributes(value);
                    made_by = info.find(|(k, _)| *k == IFLA_INFO_KIND).map(|(_, v)| text(v));
                }
                _ => {}
            }
        }
        if made_by.is_some_and(|kind| kind != "veth") {
            return None;
        }
        let on = |flag: i32| flags & flag as u32 != 0;
        let up = on(libc::IFF_UP);
        let carrier = up && on(libc::IFF_LOWER_UP);
        Some(Self { index, name: name?, mac: mac?, up, carrier })
    }
}

/// The index and the name of a link that is up and has somebody at the other end, but is not the loopback;
/// from the payload of an `RTM_NEWLINK` message.
pub(super) fn with_carrier(payload: &[u8]) -> Option<(u32, String)> {
    let index = number32(payload, 4)?;
    let flags = number32(payload, 8)?;
    let on = |flag: i32| flags & flag as u32 != 0;
    let mut attributes = attributes(payload.get(FIXED..)?);
    let (_, name) = attributes.find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let usable = on(libc::IFF_UP) && on(libc::IFF_LOWER_UP) && !on(libc::IFF_LOOPBACK);
    usable.then(|| (index, text(name)))
}
