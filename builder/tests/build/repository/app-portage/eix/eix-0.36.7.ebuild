# Distributed under the terms of the GNU General Public License v2 or later

EAPI=8

DESCRIPTION="A list of all packages that can be searched quickly"
HOMEPAGE="https://gse.example/"
S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - eix-update <<-'EOF'
		#!/bin/bash
		mkdir -p /var/cache/eix
		cd "$(portageq get_repo_path / gentoo)" && ls -d ?*-*/*/ >/var/cache/eix/portage.eix
	EOF
}
