# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Stands for dracut: its command line, and its image"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - dracut <<-'EOF'
		#!/bin/bash
		set -eu
		[[ $1 == --force && $2 == --no-hostonly && $3 == --kver && -d /lib/modules/$4 && $# == 5 ]]
		echo "made by dracut" >"$5"
	EOF
}
