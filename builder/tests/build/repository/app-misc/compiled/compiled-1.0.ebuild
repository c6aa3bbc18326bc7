# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Says with what it was compiled"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	gcc --version >compilers || die
}

src_install() {
	insinto /usr/share/compiled
	doins compilers
}
