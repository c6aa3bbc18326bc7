#!/bin/sh
# GSE: sourced by dracut when what it waits for (a network, a device of another module) does not come. The
# controller starts what the machine has.
# shellcheck disable=SC2154 # Variables that nothing here sets are dracut's.
[ "$root" != gse ] || rm -f "$hookdir"/initqueue/finished/*.sh
