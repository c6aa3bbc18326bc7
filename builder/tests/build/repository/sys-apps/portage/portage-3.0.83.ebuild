# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Stands for the Portage that the stage3 stand-in has from PyPI"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
