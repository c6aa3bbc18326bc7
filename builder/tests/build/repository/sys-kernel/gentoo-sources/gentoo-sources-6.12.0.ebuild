# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Stands where the sources of a kernel are"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto "/usr/src/linux-${PV}-gentoo"
	newins - Makefile <<<"VERSION = ${PV}"
}
