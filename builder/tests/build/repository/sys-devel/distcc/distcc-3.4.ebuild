# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Stands for distcc and pump: a compiler elsewhere"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	exeinto /usr/lib/distcc/bin
	newexe - gcc <<-'EOF'
		#!/bin/bash
		echo "distcc on ${DISTCC_HOSTS}"
	EOF
	newbin - distcc <<<"#!/bin/bash"
	newbin - pump <<-'EOF'
		#!/bin/bash
		echo "pump: starting the include server"
		"$@"
	EOF
}
