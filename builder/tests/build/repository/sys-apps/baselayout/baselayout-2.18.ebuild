# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="The name of the system"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto /etc
	newins - gentoo-release <<<"Gentoo Base System release ${PV}"
}
