# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="What app-misc/lab-tools is built with"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - lab-maker <<-'EOF'
		#!/bin/sh
		printf '#!/bin/sh\necho "extra: %s"\n' "$1"
	EOF
}
