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
}

# Of any machine, not only of the one that builds the image.
installkernel() {
    hostonly='' instmods \
        @DRIVERS@
}
