# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit systemd

DESCRIPTION="Builds, signs and serves the systems of labs whose machines are stateless"
HOMEPAGE="https://wiki.gentoo.org/wiki/GSE"
SRC_URI="${P}-amd64.tar.xz"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="-* ~amd64"
IUSE="ccache distcc"
# Static programs, which the manifest of --health-check knows as they are.
RESTRICT="fetch strip"

RDEPEND="
	app-arch/tar
	app-arch/xz-utils
	app-crypt/gnupg
	app-shells/bash
	sys-apps/util-linux
	ccache? ( dev-util/ccache )
	distcc? ( sys-devel/distcc )
"

QA_PREBUILT="usr/bin/gse usr/lib64/gse/*"

pkg_nofetch() {
	einfo "make dist, in gse's sources, makes ${A}: put it into your DISTDIR."
}

src_install() {
	local page

	dobin usr/bin/gse
	for page in usr/share/man/man*/*; do
		doman "${page}"
	done
	dodoc -r usr/share/doc/gse/.

	mkdir -p "${ED}/usr/lib64" "${ED}/usr/share" || die
	cp -a usr/lib64/gse "${ED}/usr/lib64/" || die
	cp -a usr/share/{bash-completion,fish,gse,zsh} "${ED}/usr/share/" || die

	doinitd etc/init.d/gse
	doconfd etc/conf.d/gse
	systemd_dounit usr/lib/systemd/system/gse.service

	# Administrators edit the configuration where it is.
	newenvd - 50gse <<-EOF
		CONFIG_PROTECT="/usr/lib64/gse/config.d"
	EOF
}
