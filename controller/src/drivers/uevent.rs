//! What the kernel says when a device appears, changes or goes: `ACTION@DEVPATH`, then `KEY=VALUE`,
//! each ended by a NUL (`lib/kobject_uevent.c`).

/// An event, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uevent<'m> {
    /// `add`, `remove`, `change`, `bind` …
    pub(super) action: &'m str,
    /// What the device is, for its driver.
    pub(super) modalias: Option<&'m str>,
}

impl<'m> Uevent<'m> {
    pub(super) fn parse(message: &'m [u8]) -> Option<Self> {
        let mut fields = message.split(|b| *b == 0).map(|f| str::from_utf8(f).unwrap_or_default());
        let (action, _) = fields.next()?.split_once("@/")?;
        let modalias = fields.find_map(|field| field.strip_prefix("MODALIAS="));
        Some(Self { action, modalias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read() {
        let message = b"add@/devices/pci0/usb1\0ACTION=add\0DEVPATH=/devices/pci0/usb1\0\
                        SUBSYSTEM=usb\0MODALIAS=usb:v1D6Bp0002\0SEQNUM=7\0";
        let expected = Uevent { action: "add", modalias: Some("usb:v1D6Bp0002") };
        assert_eq!(Uevent::parse(message), Some(expected));
        let bare = Uevent { action: "remove", modalias: None };
        assert_eq!(Uevent::parse(b"remove@/devices/x\0ACTION=remove\0"), Some(bare));
    }

    #[test]
    fn what_is_no_event_is_ignored() {
        for message in [&b"libudev\0\xfe\xed\xca\xfe"[..], b"", b"\0\0", b"\xff@/x\0"] {
            assert_eq!(Uevent::parse(message), None);
        }
    }
}
