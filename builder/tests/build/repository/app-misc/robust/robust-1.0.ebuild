# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Needs nothing, and comes after app-misc/fragile"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto /usr/share/robust
	newins - built <<<"built"
}
