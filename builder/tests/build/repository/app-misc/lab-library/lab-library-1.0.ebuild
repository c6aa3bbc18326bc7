# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="What app-misc/lab-tools needs when it runs"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto /usr/share/lab-library
	newins - data <<<"data"
}
