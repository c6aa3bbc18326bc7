# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Stands for ccache: a compiler before the compiler"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	exeinto /usr/lib/ccache/bin
	newexe - gcc <<-'EOF'
		#!/bin/bash
		touch "${CCACHE_DIR}/object"
		echo "ccache in ${CCACHE_DIR}, at most ${CCACHE_MAXSIZE}"
		PATH=${PATH#*:}
		exec gcc "$@"
	EOF
	newbin - ccache <<<"#!/bin/bash"
}
