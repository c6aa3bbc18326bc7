//! The modules, and what each is for.

use std::{fmt, str::FromStr};

use crate::Contents;

/// Network drivers of any machine, by directory. `instmods` looks into these when an image is built.
pub(crate) const NETWORK_DRIVERS: &[&str] = &[
    "=drivers/net/ethernet",
    "=drivers/net/mdio",
    "=drivers/net/phy",
    "=drivers/net/usb",
    "af_packet",
    "hv_netvsc",
    "virtio_net",
    "vmxnet3",
    "xen-netfront",
];

/// Drivers of disks on any machine, and of filesystems.
pub(crate) const STORAGE_DRIVERS: &[&str] = &[
    "=drivers/ata",
    "=drivers/nvme/host",
    "=drivers/scsi",
    "=drivers/message/fusion",
    "=drivers/usb/host",
    "=drivers/usb/storage",
    "=drivers/mmc",
    "=drivers/virtio",
    "=drivers/hv",
    "=arch/x86/crypto",
    "btrfs",
    "crc32c_generic",
    "ext4",
    "nls_ascii",
    "nls_cp437",
    "nls_iso8859_1",
    "nls_utf8",
    "vfat",
    "virtio_blk",
    "vmd",
    "xen-blkfront",
    "xfs",
];

/// Programs that make and check filesystems of the default configuration.
pub(crate) const TOOLS: &[&str] = &["btrfs", "mkfs.btrfs", "e2fsck", "mke2fs", "mkfs.ext4"];

/// A module's purpose. Each can be left out but the first, here or by `omit_dracutmodules`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The controller and its hooks.
    Controller,
    /// The configuration and the keys.
    Config,
    /// Drivers of network cards.
    Network,
    /// Drivers of disks, filesystems and their programs.
    Storage,
    /// What the administrator adds: hooks, kernel options, module options.
    Local,
}

impl Category {
    /// All but the controller's.
    pub(crate) const PARTS: [Self; 4] = [Self::Config, Self::Network, Self::Storage, Self::Local];

    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Controller, Self::Config, Self::Network, Self::Storage, Self::Local];

    /// As dracut's configuration names it.
    pub const fn module(self) -> &'static str {
        match self {
            Self::Controller => "gse",
            Self::Config => "gse-config",
            Self::Network => "gse-network",
            Self::Storage => "gse-storage",
            Self::Local => "gse-local",
        }
    }

    /// Its directory below `modules.d`. dracut keeps 50 to 59 for modules from elsewhere
    /// (`dracut.modules(7)`), and installs lower numbers first.
    pub fn directory(self) -> String {
        format!("{}{}", 50 + self as u8, self.module())
    }

    /// Whether a module of this category would have nothing to do.
    pub(crate) fn is_empty(self, contents: &Contents) -> bool {
        self == Self::Local
            && contents.hooks.is_empty()
            && contents.cmdline.is_none()
            && contents.modprobe.is_none()
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.module())
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        let found = Self::ALL.into_iter().find(|category| category.module() == text);
        found.ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}

/// A name that none of the modules has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of GSE's modules, which are {names}", names = Category::ALL.map(Category::module).join(", "))]
pub struct UnknownCategory(String);
