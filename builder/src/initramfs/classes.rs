//! Which drivers a lab machine needs: classes of them, found by where they lie in the kernel's sources.
//!
//! Directories keep their place from kernel to kernel, while modules come, go and are renamed, so a class is
//! directories first and names where a directory has more than is wanted. A name that a kernel does
//! not have is no mistake here: it may be built in, or not made yet.

use gse_protocol::config::drives::Filesystem;

use super::kernel::Module;

/// A set of drivers that goes by one name.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    /// Whether it is in the image when `--drivers` is not given.
    pub(super) default: bool,
    /// Places in the kernel's sources: a directory with all below it (`drivers/ata/`), a file
    /// (`drivers/scsi/st`), or all files whose names begin so (`drivers/virtio/virtio*`).
    origins: &'static [&'static str],
    /// But not below these.
    without: &'static [&'static str],
    /// And these modules.
    pub(super) modules: &'static [&'static str],
}

/// Host adapters of storage networks. A lab machine boots from a disk of its own.
const SAN: &[&str] = &[
    "drivers/scsi/be2iscsi/",
    "drivers/scsi/bfa/",
    "drivers/scsi/bnx2fc/",
    "drivers/scsi/bnx2i/",
    "drivers/scsi/csiostor/",
    "drivers/scsi/cxgbi/",
    "drivers/scsi/elx/",
    "drivers/scsi/fcoe/",
    "drivers/scsi/fnic/",
    "drivers/scsi/ibmvscsi/",
    "drivers/scsi/libfc/",
    "drivers/scsi/lpfc/",
    "drivers/scsi/qedf/",
    "drivers/scsi/qedi/",
    "drivers/scsi/qla2xxx/",
    "drivers/scsi/qla4xxx/",
    "drivers/scsi/snic/",
    "drivers/net/ethernet/broadcom/cnic",
    "drivers/scsi/iscsi_*",
    "drivers/scsi/libiscsi",
    "drivers/scsi/libiscsi_tcp",
    "drivers/scsi/scsi_transport_iscsi",
    "drivers/scsi/scsi_transport_srp",
    "drivers/message/fusion/mptfc",
    "drivers/message/fusion/mptlan",
];

/// Network cards of data centres, most of them for 25 Gbit/s and more: half of all network drivers by size.
const FABRIC: &[&str] = &[
    "drivers/infiniband/",
    "drivers/net/ethernet/broadcom/bnx2x/",
    "drivers/net/ethernet/broadcom/bnxt/",
    "drivers/net/ethernet/brocade/",
    "drivers/net/ethernet/cavium/",
    "drivers/net/ethernet/chelsio/",
    "drivers/net/ethernet/cisco/",
    "drivers/net/ethernet/emulex/",
    "drivers/net/ethernet/fungible/",
    "drivers/net/ethernet/huawei/",
    "drivers/net/ethernet/intel/fm10k/",
    "drivers/net/ethernet/intel/ice/",
    "drivers/net/ethernet/intel/idpf/",
    "drivers/net/ethernet/mellanox/",
    "drivers/net/ethernet/netronome/",
    "drivers/net/ethernet/pensando/",
    "drivers/net/ethernet/qlogic/",
    "drivers/net/ethernet/sfc/",
];

/// What servers have and lab machines do not: adapters for many disks, and network cards up to 40 Gbit/s.
const SERVER: &[&str] = &[
    "drivers/ata/pata_serverworks",
    "drivers/ata/sata_svw",
    "drivers/ata/sata_vsc",
    "drivers/scsi/3w-*",
    "drivers/scsi/aacraid/",
    "drivers/scsi/aic94xx/",
    "drivers/scsi/arcmsr/",
    "drivers/scsi/esas2r/",
    "drivers/scsi/hpsa",
    "drivers/scsi/hptiop",
    "drivers/scsi/ipr",
    "drivers/scsi/ips",
    "drivers/scsi/megaraid",
    "drivers/scsi/megaraid/",
    "drivers/scsi/mpi3mr/",
    "drivers/scsi/mpt3sas/",
    "drivers/scsi/mvsas/",
    "drivers/scsi/mvumi",
    "drivers/scsi/myr*",
    "drivers/scsi/pm8001/",
    "drivers/scsi/pmcraid",
    "drivers/scsi/smartpqi/",
    "drivers/scsi/stex",
    "drivers/net/ethernet/broadcom/bnx2",
    "drivers/net/ethernet/intel/i40e/",
    "drivers/net/ethernet/intel/iavf/",
    "drivers/net/ethernet/intel/igbvf/",
    "drivers/net/ethernet/intel/ixgb/",
    "drivers/net/ethernet/intel/ixgbevf/",
    "drivers/net/ethernet/myricom/",
    "drivers/net/ethernet/neterion/",
    "drivers/net/ethernet/sun/",
    "drivers/net/ethernet/tehuti/tehuti",
];

/// Network cards that only the virtual machines of the large clouds have.
const CLOUD: &[&str] = &[
    "drivers/net/ethernet/amazon/",
    "drivers/net/ethernet/google/",
    "drivers/net/ethernet/microsoft/",
];

/// What was sold before 2005 or goes onto boards of one's own: parallel SCSI, PCMCIA, Fast Ethernet cards of the
/// nineties, readers of forgotten memory cards, networks between two USB ports, transceivers of embedded boards.
/// What a common virtual machine imitates is not among them: BusLogic, sym53c8xx, am53c974, tulip, pcnet32, ne2k.
const RARE: &[&str] = &[
    "drivers/ata/pata_legacy",
    "drivers/ata/pata_pcmcia",
    "drivers/ata/pdc_adma",
    "drivers/ata/sata_qstor",
    "drivers/ata/sata_sx4",
    "drivers/mmc/host/sdricoh_cs",
    "drivers/mmc/host/vub300",
    "drivers/mmc/host/wbsd",
    "drivers/net/ethernet/3com/",
    "drivers/net/ethernet/8390/axnet_cs",
    "drivers/net/ethernet/8390/pcnet_cs",
    "drivers/net/ethernet/adaptec/",
    "drivers/net/ethernet/alteon/",
    "drivers/net/ethernet/amd/nmclan_cs",
    "drivers/net/ethernet/amd/xgbe/",
    "drivers/net/ethernet/broadcom/b44",
    "drivers/net/ethernet/dec/tulip/de2104x",
    "drivers/net/ethernet/dec/tulip/dmfe",
    "drivers/net/ethernet/dec/tulip/uli526x",
    "drivers/net/ethernet/dec/tulip/winbond-840",
    "drivers/net/ethernet/dec/tulip/xircom_cb",
    "drivers/net/ethernet/dlink/",
    "drivers/net/ethernet/fealnx",
    "drivers/net/ethernet/fujitsu/",
    "drivers/net/ethernet/micrel/",
    "drivers/net/ethernet/microchip/",
    "drivers/net/ethernet/natsemi/",
    "drivers/net/ethernet/packetengines/",
    "drivers/net/ethernet/silan/",
    "drivers/net/ethernet/sis/sis900",
    "drivers/net/ethernet/smsc/",
    "drivers/net/ethernet/stmicro/",
    "drivers/net/ethernet/ti/",
    "drivers/net/ethernet/xircom/",
    "drivers/net/phy/adin*",
    "drivers/net/phy/aquantia*",
    "drivers/net/phy/aquantia/",
    "drivers/net/phy/bcm8*",
    "drivers/net/phy/cortina",
    "drivers/net/phy/dp83*",
    "drivers/net/phy/marvell-88*",
    "drivers/net/phy/marvell10g",
    "drivers/net/phy/microchip_t1*",
    "drivers/net/phy/mscc/",
    "drivers/net/phy/nxp-*",
    "drivers/net/phy/rockchip",
    "drivers/net/phy/teranetics",
    "drivers/net/phy/uPD60620",
    "drivers/net/usb/catc",
    "drivers/net/usb/cdc_eem",
    "drivers/net/usb/cdc_subset",
    "drivers/net/usb/cx82310_eth",
    "drivers/net/usb/gl620a",
    "drivers/net/usb/int51x1",
    "drivers/net/usb/kalmia",
    "drivers/net/usb/kaweth",
    "drivers/net/usb/lg-vl600",
    "drivers/net/usb/net1080",
    "drivers/net/usb/plusb",
    "drivers/net/usb/zaurus",
    "drivers/scsi/a100u2w",
    "drivers/scsi/advansys",
    "drivers/scsi/aic7xxx/",
    "drivers/scsi/atp870u",
    "drivers/scsi/dc395x",
    "drivers/scsi/dmx3191d",
    "drivers/scsi/initio",
    "drivers/scsi/pcmcia/",
    "drivers/scsi/qla1280",
    "drivers/scsi/qlogicfas408",
    "drivers/scsi/wd719x",
    "drivers/usb/storage/ums-alauda",
    "drivers/usb/storage/ums-cypress",
    "drivers/usb/storage/ums-datafab",
    "drivers/usb/storage/ums-freecom",
    "drivers/usb/storage/ums-isd200",
    "drivers/usb/storage/ums-jumpshot",
    "drivers/usb/storage/ums-karma",
    "drivers/usb/storage/ums-onetouch",
    "drivers/usb/storage/ums-sddr*",
    "drivers/usb/storage/ums-usbat",
];

/// All classes.
pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "disk",
        default: true,
        origins: &[
            "drivers/ata/",
            "drivers/nvme/host/nvme",
            "drivers/nvme/host/nvme-core",
            "drivers/pci/controller/vmd",
            "drivers/scsi/",
            "drivers/message/fusion/",
            "drivers/usb/storage/",
            "drivers/mmc/",
            "drivers/ufs/",
        ],
        // The device files of robots, tapes, scanners and an adapter's own tools, and a driver for tests.
        without: &[
            "drivers/message/fusion/mptctl",
            "drivers/scsi/ch",
            "drivers/scsi/device_handler/",
            "drivers/scsi/osst",
            "drivers/scsi/scsi_debug",
            "drivers/scsi/ses",
            "drivers/scsi/sg",
            "drivers/scsi/st",
            "drivers/mmc/core/mmc_test",
            "drivers/mmc/core/sdio_uart",
        ],
        modules: &[
            "sd_mod",
            "sr_mod",
            "virtio_blk",
            "virtio_scsi",
            "rtsx_pci_sdmmc",
            "rtsx_usb_sdmmc",
        ],
    },
    Class {
        name: "san",
        default: false,
        origins: SAN,
        without: &[],
        modules: &["nvme_fc", "nvme_rdma", "nvme_tcp"],
    },
    Class {
        name: "nfs",
        default: false,
        origins: &[],
        without: &[],
        modules: &["nfs", "nfsv4", "nfsv3", "nfs_layout_nfsv41_files", "nfs_layout_flexfiles"],
    },
    Class {
        name: "net",
        default: true,
        origins: &[
            "drivers/net/ethernet/",
            "drivers/net/mdio/",
            "drivers/net/phy/",
            "drivers/net/usb/",
            "drivers/net/virtio_net",
            "drivers/net/vmxnet3/",
        ],
        // Modems dial; a lab machine is on a cable.
        without: &[
            "drivers/net/phy/sfp",
            "drivers/net/usb/cdc-phonet",
            "drivers/net/usb/cdc_mbim",
            "drivers/net/usb/hso",
            "drivers/net/usb/huawei_cdc_ncm",
            "drivers/net/usb/ipheth",
            "drivers/net/usb/qmi_wwan",
            "drivers/net/usb/sierra_net",
        ],
        modules: &["af_packet"],
    },
    Class { name: "server", default: false, origins: SERVER, without: &[], modules: &[] },
    Class { name: "fabric", default: false, origins: FABRIC, without: &[], modules: &[] },
    Class { name: "cloud", default: false, origins: CLOUD, without: &[], modules: &[] },
    Class { name: "rare", default: false, origins: RARE, without: &[], modules: &[] },
    Class {
        name: "usb",
        default: true,
        origins: &["drivers/usb/host/"],
        // Controllers on development boards and in lab gear, and keys for another side of USB.
        without: &[
            "drivers/usb/host/isp116x-hcd",
            "drivers/usb/host/sl811*",
            "drivers/usb/host/u132-hcd",
            "drivers/usb/host/xhci-plat-hcd",
        ],
        modules: &["usbcore", "usbhid", "hid_generic"],
    },
    Class {
        name: "input",
        default: true,
        origins: &["drivers/input/serio/i8042", "drivers/input/serio/libps2"],
        without: &[],
        modules: &[
            "atkbd",
            "hid_generic",
            "usbhid",
            "hyperv_keyboard",
            "hid_hyperv",
            "xen_kbdfront",
        ],
    },
    Class {
        name: "virtio",
        default: true,
        origins: &["drivers/virtio/virtio*"],
        without: &[
            "drivers/virtio/virtio_balloon",
            "drivers/virtio/virtio_mem",
            "drivers/virtio/virtio_vdpa",
        ],
        modules: &["virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "virtio_scsi"],
    },
    Class {
        name: "hyperv",
        default: true,
        origins: &[
            "drivers/hv/hv_vmbus",
            "drivers/net/hyperv/",
            "drivers/pci/controller/pci-hyperv",
        ],
        without: &[],
        modules: &["hv_storvsc", "hyperv_keyboard", "hid_hyperv"],
    },
    Class {
        name: "xen",
        default: true,
        origins: &[],
        without: &[],
        modules: &["xen_blkfront", "xen_netfront", "xen_scsifront"],
    },
    Class {
        name: "crypto",
        default: true,
        // What filesystems check their metadata with, in each of its implementations.
        origins: &["arch/x86/crypto/crc32*"],
        without: &[],
        modules: &["crc32c_generic", "libcrc32c"],
    },
    Class {
        name: "watchdog",
        default: true,
        origins: &[],
        without: &[],
        // Those of PCs and servers that the kernel finds by itself, and what makes the devices of the first two known.
        modules: &[
            "iTCO_wdt",
            "lpc_ich",
            "i2c_i801",
            "sp5100_tco",
            "wdat_wdt",
            "hpwdt",
            "i6300esb",
        ],
    },
];

/// The class of filesystems has its modules from the configuration.
pub(super) const FILESYSTEM: &str = "filesystem";

/// Every class.
pub(super) const ALL: &str = "all";

/// The classes of an image for which `--drivers` is not given.
pub(super) const DEFAULT: &str = "default";

impl Class {
    /// Whether the module lies in one of the class's places. What a class names that has to be asked for is in no
    /// other: a directory belongs to a default class but for what is known to be a matter of its own, so a driver
    /// that is new in there is in the image until somebody says that it need not be.
    pub(super) fn has(&self, module: &Module) -> bool {
        let below = |places: &[&str]| places.iter().any(|place| is_at(&module.origin, place));
        let elsewhere =
            || CLASSES.iter().any(|c| !c.default && c.name != self.name && below(c.origins));
        below(self.origins) && !below(self.without) && !elsewhere()
    }
}

/// Whether a source path is at a place, as [`Class::origins`] says them.
fn is_at(origin: &str, place: &str) -> bool {
    let Some(rest) = origin.strip_prefix(place.trim_end_matches('*')) else { return false };
    match place.chars().last() {
        Some('/') => true,
        Some('*') => !rest.contains('/'),
        _ => rest.starts_with(".ko"),
    }
}

/// The modules of a filesystem, and what only it asks for while it is mounted.
pub(super) fn filesystem_modules(filesystems: &[Filesystem]) -> Vec<&'static str> {
    // BOOTFS may be the firmware's own partition; its names are in one of these character sets.
    let mut modules = vec!["ext4", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8"];
    for filesystem in filesystems {
        modules.push(match filesystem {
            Filesystem::Btrfs => "btrfs",
            Filesystem::Ext4 => "ext4",
            Filesystem::Xfs => "xfs",
        });
    }
    modules
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(origin: &str) -> Module {
        Module {
            path: format!("kernel/{origin}"),
            origin: origin.to_owned(),
            needs: vec![],
            wants: vec![],
        }
    }

    #[test]
    fn classes_are_told_apart_by_directory() {
        let cases = [
            ("drivers/net/ethernet/intel/e1000e/e1000e.ko", &["net"][..]),
            ("drivers/net/ethernet/mellanox/mlx4/mlx4_core.ko", &["fabric"]),
            ("drivers/net/wireless/intel/iwlwifi/iwlwifi.ko", &[]),
            ("drivers/scsi/qla2xxx/qla2xxx.ko", &["san"]),
            ("drivers/scsi/sd_mod.ko", &["disk"]),
            ("drivers/scsi/st.ko", &[]),
            ("drivers/scsi/stex.ko", &["server"]),
            ("drivers/scsi/megaraid.ko", &["server"]),
            ("drivers/scsi/megaraid/megaraid_sas.ko", &["server"]),
            ("drivers/scsi/sym53c8xx_2/sym53c8xx.ko", &["disk"]),
            ("drivers/scsi/made_tomorrow.ko", &["disk"]),
            ("drivers/message/fusion/mptspi.ko", &["disk"]),
            ("drivers/net/ethernet/broadcom/bnx2.ko", &["server"]),
            ("drivers/net/ethernet/broadcom/tg3.ko", &["net"]),
            ("drivers/net/ethernet/amazon/ena/ena.ko", &["cloud"]),
            ("drivers/net/ethernet/3com/3c59x.ko", &["rare"]),
            ("drivers/net/phy/realtek.ko", &["net"]),
            ("drivers/ata/ahci.ko.xz", &["disk"]),
            ("drivers/usb/host/xhci-pci.ko", &["usb"]),
            ("drivers/usb/storage/uas.ko", &["disk"]),
            ("drivers/virtio/virtio_pci.ko", &["virtio"]),
            ("drivers/nvme/host/nvme.ko.zst", &["disk"]),
            ("drivers/nvme/host/nvme-rdma.ko", &[]),
            ("drivers/nvme/target/nvmet.ko", &[]),
            ("arch/x86/crypto/crc32c-intel.ko", &["crypto"]),
            ("sound/core/snd.ko", &[]),
        ];
        for (origin, expected) in cases {
            let found: Vec<_> =
                CLASSES.iter().filter(|c| c.has(&at(origin))).map(|c| c.name).collect();
            assert_eq!(found, expected, "{origin}");
        }
    }
}
