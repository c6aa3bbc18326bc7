# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Profiles and locales, in the words of eselect"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin "${FILESDIR}/eselect" eselect
}
