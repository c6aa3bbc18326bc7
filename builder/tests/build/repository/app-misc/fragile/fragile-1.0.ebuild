# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Fails until somebody mends the system"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	[[ -e ${EROOT}/etc/mended ]] || die "there is no /etc/mended"
}

src_install() {
	insinto /usr/share/fragile
	newins - built <<<"built"
}
