# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Puts files where a distribution kernel has its own"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="${PV}"
KEYWORDS="amd64"

src_install() {
	insinto /boot
	newins - "vmlinuz-${PV}-gentoo-dist" <<<"kernel"
	insinto "/lib/modules/${PV}-gentoo-dist"
	newins - modules.order <<<""
}
