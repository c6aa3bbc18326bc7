#!/bin/sh
# GSE: drivers of network cards. The controller brings the network up itself. Made by `gse --build-controller`.

check() {
    return 255
}

# Of any machine, not only of the one that builds the image.
installkernel() {
    hostonly='' instmods \
        @DRIVERS@
}
