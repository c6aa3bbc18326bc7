#!/bin/sh
# GSE: drivers of disks, filesystems and their programs. Made by `gse --build-controller`.

check() {
    require_binaries \
        @TOOLS@ || return 1
    return 255
}

install() {
    inst_multiple \
        @TOOLS@
    # Without it, mke2fs makes another kind of ext4.
    inst_multiple -o /etc/mke2fs.conf
}

# Of any machine, not only of the one that builds the image.
installkernel() {
    hostonly='' instmods \
        @DRIVERS@
}
