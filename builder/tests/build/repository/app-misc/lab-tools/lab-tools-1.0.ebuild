# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="A package with a USE flag, a dependency, and one that only its build needs"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
IUSE="extra"
RDEPEND="app-misc/lab-library"
BDEPEND="dev-util/lab-maker"

src_compile() {
	lab-maker "$(usex extra yes no)" >lab-tools || die
}

src_install() {
	dobin lab-tools
}
