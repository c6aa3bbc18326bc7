#!/bin/sh
# GSE: a systemd generator (systemd.generator(7)). systemd's own, and dracut's, look for a device named by
# root=. What lies in the early directory hides files of the same name in theirs.
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
mkdir -p "$2/initrd-root-fs.target.requires" "$2/initrd-root-device.target.d" "$2/initrd.target.wants"
ln -sf ../sysroot.mount "$2/initrd-root-fs.target.requires/sysroot.mount"
# Nobody waits for root=LABEL=SYSFS: a blank disk has no such label, and labels move.
: > "$2/initrd-root-device.target.d/50-root-device.conf"
ln -sf /dev/null "$2/initrd.target.wants/dev-disk-by\\x2dlabel-SYSFS.device"
