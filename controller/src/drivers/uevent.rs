//! What the kernel says when a device appears, changes or goes: `ACTION@DEVPATH`, then `KEY=VALUE`,
//! each ended by a NUL (`lib/kobject_uevent.c`).

/// An event, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uevent<'m> {
    /// `add`, `remove`, `change`, `bind` …
    pub(super) action: &'m str,
    /// Whether it is about a device, and not about what software makes: modules, queues, filesystems.
    pub(super) hardware: bool,
    /// What the device is, for its driver.
    pub(super) modalias: Option<&'m str>,
}

impl<'m> Uevent<'m> {
    pub(super) fn parse(message: &'m [u8]) -> Option<Self> {
        let mut fields = message.split(|b| *b == 0).map(|f| str::from_utf8(f).unwrap_or_default());
        let (action, path) = fields.next()?.split_once("@/")?;
        let hardware = path.starts_with("devices/") && !path.starts_with("devices/virtual/");
        let modalias = fields.find_map(|field| field.strip_prefix("MODALIAS="));
        Some(Self { action, hardware, modalias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read() {
        let message = b"add@/devices/pci0/usb1\0ACTION=add\0DEVPATH=/devices/pci0/usb1\0\
                        SUBSYSTEM=usb\0MODALIAS=usb:v1D6Bp0002\0SEQNUM=7\0";
        let modalias = Some("usb:v1D6Bp0002");
        let expected = Uevent { action: "add", hardware: true, modalias };
        assert_eq!(Uevent::parse(message), Some(expected));
        for (message, action, hardware) in [
            (&b"remove@/devices/x\0ACTION=remove\0"[..], "remove", true),
            (b"add@/devices/virtual/bdi/btrfs-1\0", "add", false),
            (b"add@/module/af_packet\0", "add", false),
        ] {
            let expected = Uevent { action, hardware, modalias: None };
            assert_eq!(Uevent::parse(message), Some(expected));
        }
    }

    #[test]
    fn what_is_no_event_is_ignored() {
        for message in [&b"libudev\0\xfe\xed\xca\xfe"[..], b"", b"\0\0", b"\xff@/x\0"] {
            assert_eq!(Uevent::parse(message), None);
        }
    }
}
