#!/bin/sh
# GSE: sourced by dracut. The controller says whether the kernel command line means this boot for it.
# shellcheck disable=SC2154 # Variables that nothing here sets are dracut's.
if gse-controller dracut cmdline; then
    # shellcheck disable=SC2034 # dracut reads both.
    root=gse rootok=1
    # With systemd, dracut's generator has made these for root=LABEL=SYSFS: a blank disk has no such label.
    rm -f "$hookdir"/initqueue/finished/devexists-*by-label*SYSFS.sh "$hookdir"/emergency/80-*by-label*SYSFS.sh
fi
