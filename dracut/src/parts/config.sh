#!/bin/sh
# GSE: the configuration and the keys, as they lie in this module's directory. Made by `gse --build-controller`.
# shellcheck disable=SC2154 # Variables that nothing here sets are dracut's.

check() {
    if [ ! -d "$moddir/root" ]; then
        derror "gse: there is no configuration in $moddir/root: take the modules that gse --build-controller writes"
        return 1
    fi
    return 255
}

install() {
    (cd "$moddir" && find root -type f) | while IFS= read -r file; do
        inst_simple "$moddir/$file" "/${file#root/}"
    done
}
