#!/bin/sh
# GSE: drivers of disks, filesystems and their programs. Made by `gse --build-controller`.

check() {
    require_binaries \
        'btrfs' \
        'mkfs.btrfs' \
        'e2fsck' \
        'mke2fs' \
        'mkfs.ext4' || return 1
    return 255
}

install() {
    inst_multiple \
        'btrfs' \
        'mkfs.btrfs' \
        'e2fsck' \
        'mke2fs' \
        'mkfs.ext4'
    # Without it, mke2fs makes another kind of ext4.
    inst_multiple -o /etc/mke2fs.conf
}

# Of any machine, not only of the one that builds the image.
installkernel() {
    hostonly='' instmods \
        '=drivers/ata' \
        '=drivers/nvme/host' \
        '=drivers/scsi' \
        '=drivers/message/fusion' \
        '=drivers/usb/host' \
        '=drivers/usb/storage' \
        '=drivers/mmc' \
        '=drivers/virtio' \
        '=drivers/hv' \
        '=arch/x86/crypto' \
        'btrfs' \
        'crc32c_generic' \
        'ext4' \
        'nls_ascii' \
        'nls_cp437' \
        'nls_iso8859_1' \
        'nls_utf8' \
        'vfat' \
        'virtio_blk' \
        'vmd' \
        'xen-blkfront' \
        'xfs'
}
