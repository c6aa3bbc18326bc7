#!/bin/sh
# GSE: a systemd generator (systemd.generator(7)). systemd's own would look for a device named by root=; the
# early directory wins over it.
gse-controller dracut cmdline || exit 0
cat > "$2/sysroot.mount" << UNIT
[Unit]
Description=The system that the GSE controller has chosen
Before=initrd-root-fs.target
After=dracut-pre-mount.service
Wants=dracut-pre-mount.service

[Mount]
What=gse
Where=/sysroot
Type=gse
# An installation takes the time that it takes.
TimeoutSec=infinity
UNIT
mkdir -p "$2/initrd-root-fs.target.requires"
ln -sf ../sysroot.mount "$2/initrd-root-fs.target.requires/sysroot.mount"
