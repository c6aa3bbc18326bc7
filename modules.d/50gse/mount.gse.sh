#!/bin/sh
# GSE: `mount -t gse`, by which systemd asks for the root; mount(8) gives the device and the directory.
NEWROOT=$2 exec gse-controller dracut mount
