#!/bin/sh
# GSE: drivers of network cards. The controller brings the network up itself. Made by `gse --build-controller`.

check() {
    return 255
}

# Of any machine, not only of the one that builds the image.
installkernel() {
    hostonly='' instmods \
        '=drivers/net/ethernet' \
        '=drivers/net/mdio' \
        '=drivers/net/phy' \
        '=drivers/net/usb' \
        'af_packet' \
        'hv_netvsc' \
        'virtio_net' \
        'vmxnet3' \
        'xen-netfront'
}
