# GSE. `make` alone lists what there is to make.

SHELL = /bin/sh
PREFIX ?= /usr
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILT  := $(TARGET)/x86_64-unknown-linux-musl
# Where there was no compiler for musl, `make deps` has built one.
export PATH := $(PATH):$(CURDIR)/.static/musl/bin
# What `make build` leaves, with nothing else beside it. Not in TARGET, which several clones may share.
BIN    := $(CURDIR)/target/bin

.DEFAULT_GOAL := help
.PHONY: help deps build lab console test soak bench fmt lint fuzz licences install fixtures compile programs fuzzer source staged dist deb ebuild

help: ## List these targets
	@printf 'GSE: lab machines that install, update and mend themselves\n\n'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@printf '\n  TREE=DIR or STAGE3=TARBALL: a root tree of your own for make lab and make console\n'
	@printf '  FILESYSTEM=btrfs|ext4|xfs, KEEP=1: how the lab formats its slots, keep its files\n'

deps: ## Install what is missing (packages, Rust target, static C libraries)
	@scripts/deps

build: deps programs ## Build gse, the controller and the virtual lab

# The lab starts the programs that users get: the controller as it travels in an initramfs, gse as it is installed.
programs:
	cargo build --locked --release -p gse -p gse-qemu
	cargo build --locked --profile tiny -p gse-controller
	@mkdir -p $(BIN)
	@install -m 755 $(BUILT)/release/gse $(BUILT)/release/gse-lab $(BUILT)/tiny/gse-controller $(BIN)/
	@rm -rf $(BIN)/tools && cp -R .static/tools $(BIN)/tools

LAB = $(BIN)/gse-lab run $(if $(TREE),--tree '$(TREE)') $(if $(STAGE3),--stage3 '$(STAGE3)') \
	$(if $(FILESYSTEM),--filesystem $(FILESYSTEM)) $(if $(KEEP),--keep)

# What is mistyped is said before anything is built.
source:
	@test -z '$(TREE)' || test -d '$(TREE)' || { echo 'make lab: there is no directory TREE=$(TREE)'; exit 1; }
	@test -z '$(STAGE3)' || test -f '$(STAGE3)' || { echo 'make lab: there is no tarball STAGE3=$(STAGE3)'; exit 1; }

lab: source build ## Boot a blank machine in QEMU: it installs a system from a server, and boots again without one
	@$(LAB)

console: source build ## The same, and then leave the machine running, with this terminal as its console
	@$(LAB) --console

# What end-to-end tests boot; fetched or made once, and then found in the cache.
fixtures:
	@scripts/fixture-kernel cloud >/dev/null
	@scripts/fixture-kernel generic >/dev/null
	@scripts/fixture-tree debian >/dev/null
	@scripts/fixture-stage3 >/dev/null
	@scripts/fixture-pkgcheck >/dev/null
	@scripts/fixture-dracut-ng trixie >/dev/null
	@scripts/fixture-tree systemd >/dev/null

# The fixtures come over the network while the compiler is at work. The end-to-end tests run last, so
# that a failure of something small is seen before.
#
# More tests run at once than there are processors, because each waits for a third of its time. So each machine is emulated by
# one thread: that takes a seventh less time of processors than a thread for each of theirs. As does the sample
# of cut disks; those whose writes are recorded have a thread for each processor all the same.
THREADS = --test-threads=$$(($$(nproc) * 3 / 2))
CRATES = cargo test --locked --workspace --exclude gse-tests -- $(THREADS)
END_TO_END = GSE_QEMU_ACCEL=$(or $(GSE_QEMU_ACCEL),$(ONE_THREAD)) GSE_BIN_DIR=$(BIN) cargo test --locked -p gse-tests
ONE_THREAD = tcg,thread=single
BOOT = $(END_TO_END) --test boot -- $(THREADS)
OTHERS = $(END_TO_END) --lib --bins --test cuts --test lab --test update
test: deps ## Run every test, as .ci/run does
	@$(MAKE) --no-print-directory -j2 --output-sync=none fixtures compile
	$(CRATES)
	$(BOOT)
	$(OTHERS)

# A test that can be made longer by what it is about reads GSE_SOAK, and does so many times as many rounds; those
# that cannot are repeated.
soak: export GSE_SOAK ?= 10
soak: fuzzer deps ## The long version: every slow test GSE_SOAK=10 times as long, and the fuzz targets; for a night
	@$(MAKE) --no-print-directory -j2 --output-sync=none fixtures compile
	PROPTEST_CASES=$$((256 * GSE_SOAK)) $(CRATES)
	$(BOOT)
	$(OTHERS)
	for round in $$(seq 2 $$GSE_SOAK); do echo "round $$round of $$GSE_SOAK"; \
		export GSE_SOAK=1; $(BOOT) || exit 1; $(OTHERS) || exit 1; done
	@$(MAKE) --no-print-directory fuzz SECONDS=$$((60 * GSE_SOAK))

compile:
	@$(MAKE) --no-print-directory lint
	cargo test --locked --workspace --no-run
	@$(MAKE) --no-print-directory programs

# Installing and cloning are measured with the code that does it in an initramfs, compiled as it is there.
bench: build ## Measure beside dracut, tar and others; results go into docs/benchmarks.md (PARTS="boot …", RUNS=3)
	@scripts/deps bench
	cargo build --locked --release -p gse-tests --bin gse-bench
	cargo build --locked --profile tiny -p gse-controller --example install --example clone --example update
	@install -m 755 $(BUILT)/tiny/examples/install $(BIN)/gse-install
	@install -m 755 $(BUILT)/tiny/examples/clone $(BIN)/gse-clone
	@install -m 755 $(BUILT)/tiny/examples/update $(BIN)/gse-update
	GSE_BIN_DIR=$(BIN) $(BUILT)/release/gse-bench $(if $(RUNS),--runs $(RUNS)) $(PARTS)

fmt: ## Format the Rust code
	cargo fmt --all

lint: ## Check formatting, lints and shell scripts
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	shellcheck $$(find scripts -type f) .ci/run

fuzz: fuzzer ## Fuzz the parsers of signed and fetched bytes, SECONDS=60 each (needs cargo-fuzz and a nightly Rust)
	cd fuzz && for target in $$(cargo +nightly fuzz list); do mkdir -p corpus/$$target && \
		cargo +nightly fuzz run "$$target" corpus/$$target seeds/$$target \
			--target x86_64-unknown-linux-gnu -- -max_total_time=$(or $(SECONDS),60) || exit 1; done

fuzzer:
	@command -v cargo-fuzz >/dev/null || { echo 'make fuzz: cargo install cargo-fuzz, first'; exit 1; }

licences: ## Check licences and sources of all dependencies, offline (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo 'make licences: cargo install --locked cargo-deny, first'; exit 1; }
	cargo deny --offline check licenses bans sources

# Where everything goes, below DESTDIR and PREFIX. The manifest is what `gse --health-check` compares with;
# manual pages are not in it, because packages compress them.
ROOT = $(DESTDIR)$(PREFIX)
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system

install: programs ## Install gse, its default configuration, manual, completions and services (DESTDIR, PREFIX)
	install -D -m 755 $(BIN)/gse $(ROOT)/bin/gse
	install -D -m 755 $(BIN)/gse-controller $(ROOT)/lib64/gse/gse-controller
	cp -R $(BIN)/tools $(ROOT)/lib64/gse/
	find config.d docs README.md CHANGELOG.md LICENSE -type f -exec sh -c 'for f; do \
		case $$f in config.d/*) to="lib64/gse/$$f share/gse/$$f" ;; *) to=share/doc/gse/$$f ;; esac; \
		for t in $$to; do install -D -m 644 "$$f" "$(ROOT)/$$t" || exit 1; done; done' sh {} +
	for page in gse.1 gse.5 gse-config.5 gse-controller.8; do \
		install -D -m 644 man/$$page $(ROOT)/share/man/man$${page##*.}/$$page || exit 1; done
	install -D -m 644 completions/gse.bash $(ROOT)/share/bash-completion/completions/gse
	install -D -m 644 completions/_gse $(ROOT)/share/zsh/site-functions/_gse
	install -D -m 644 completions/gse.fish $(ROOT)/share/fish/vendor_completions.d/gse.fish
	cd $(ROOT) && find bin/gse lib64/gse share/gse share/bash-completion/completions/gse \
		share/zsh/site-functions/_gse share/fish/vendor_completions.d/gse.fish -type f ! -path lib64/gse/manifest | \
		LC_ALL=C sort | xargs sha256sum >lib64/gse/manifest
	install -D -m 755 packages/openrc/gse $(DESTDIR)$(SYSCONFDIR)/init.d/gse
	test -e $(DESTDIR)$(SYSCONFDIR)/conf.d/gse || \
		install -D -m 644 packages/openrc/gse.confd $(DESTDIR)$(SYSCONFDIR)/conf.d/gse
	install -D -m 644 packages/systemd/gse.service $(DESTDIR)$(UNITDIR)/gse.service

# What a package is made of, and where packages go.
STAGED = $(CURDIR)/target/packages/tree
PACKAGES = $(CURDIR)/target/packages

staged: programs
	@rm -rf $(STAGED)
	@$(MAKE) --no-print-directory --old-file=programs install DESTDIR=$(STAGED) PREFIX=/usr >/dev/null

dist: staged ## Make target/packages/gse-VERSION-amd64.tar.xz, from which the ebuild installs
	@scripts/package dist $(STAGED) $(PACKAGES)

deb: staged ## Make a Debian package in target/packages
	@scripts/package deb $(STAGED) $(PACKAGES)

ebuild: staged ## Make an ebuild repository with its archive in target/packages
	@scripts/package gentoo $(STAGED) $(PACKAGES)
