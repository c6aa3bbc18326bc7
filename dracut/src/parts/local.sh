#!/bin/sh
# GSE: what this site's administrator added. Made by `gse --build-controller`.
# shellcheck disable=SC2154 # Variables that nothing here sets are dracut's.

check() {
    return 255
}

install() {
    @COMMANDS@
}
