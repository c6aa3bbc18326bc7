#!/bin/sh
# GSE: the controller and its hooks. Made by `gse --build-controller`.
# shellcheck disable=SC2154 # Variables that nothing here sets are dracut's.

# In an image only when it is asked for: add_dracutmodules+=" gse "
check() {
    if [ -z "$(gse_controller)" ]; then
        derror "gse: there is no gse-controller in $moddir or /usr/lib64/gse: copy the modules again, or install gse"
        return 1
    fi
    return 255
}

# The other modules of GSE, without those that dracut's configuration leaves out.
depends() {
    echo base udev-rules
    # Where systemd is the first process, its hooks run in dracut's units.
    if dracut_module_included systemd; then
        echo dracut-systemd
    fi
    for part in @PARTS@; do
        case " $omit_dracutmodules " in
            *" $part "*) ;;
            *) echo "$part" ;;
        esac
    done
    return 0
}

gse_controller() {
    for file in "$moddir/gse-controller" /usr/lib64/gse/gse-controller /usr/lib/gse/gse-controller; do
        if [ -x "$file" ]; then
            echo "$file"
            return 0
        fi
    done
}

install() {
    inst_simple "$(gse_controller)" /usr/sbin/gse-controller
    @HOOKS@
    # For an image whose first process is systemd.
    if dracut_module_included systemd; then
        inst_script "$moddir/gse-generator.sh" "$systemdutildir/system-generators/dracut-gse-generator"
        inst_script "$moddir/mount.gse.sh" /sbin/mount.gse
    fi
}
