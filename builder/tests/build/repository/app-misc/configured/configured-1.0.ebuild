# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="Files in /etc, some of which somebody has changed"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto /etc/configured
	newins - comments.conf <<-'EOF'
		# new words
		key  = 1
	EOF
	newins - ours.conf <<<"key = theirs"
	newins - other.conf <<<"key = new"
}
