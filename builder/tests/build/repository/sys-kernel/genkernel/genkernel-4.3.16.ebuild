# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Stands for genkernel: its command line, and its files in /boot"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - genkernel <<-'EOF'
		#!/bin/bash
		set -eu
		config=
		for word; do
			case ${word} in
			--no-color | --no-menuconfig | --no-mountboot | --no-bootloader) ;;
			--kernel-config=*) config=$(<"${word#*=}") ;;
			kernel | initramfs) action=${word} ;;
			*)
				echo "genkernel: unknown option ${word}" >&2
				exit 1
				;;
			esac
		done
		release=$(readlink /usr/src/linux)
		release=${release#linux-}
		[[ -e /usr/src/linux/Makefile ]]
		mkdir -p /boot "/lib/modules/${release}"
		case ${action} in
		kernel)
			touch /usr/src/linux/vmlinux
			echo "kernel ${config}" >"/boot/vmlinuz-${release}"
			;;
		initramfs) echo "made by genkernel" >"/boot/initramfs-${release}.img" ;;
		esac
	EOF
}
