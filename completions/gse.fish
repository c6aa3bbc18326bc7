complete -c gse -s h -l help -d 'What there is to say about a TOPIC: build, controller, images, config, serve, releases, states, installation, general, all' -r -f -a "build\t'`--base`, and what goes with it'
controller\t'`--build-controller`, and what goes with it'
images\t'Images, keys and signatures'
config\t'The controller configuration'
serve\t'`--serve`, and what goes with it'
releases\t'What is published'
states\t'Saved runs'
installation\t'This installation of gse'
general\t'Flags that many commands have'
all\t'Every flag'"
complete -c gse -l keygen -d 'Make a key pair: FILE (secret) and FILE.pub' -r -F
complete -c gse -l archive -d 'Make a signed image of a root tree and publish it (parts K and L)' -r -F
complete -c gse -l version -d 'The image\'s version; with --base, the system is published under it (part L). Alone: that of gse (-V)' -r
complete -c gse -l name -d 'The image\'s name' -r
complete -c gse -l level -d 'zstd level of the image' -r
complete -c gse -l patches -d 'From how many of the last images patches are made' -r
complete -c gse -l publish-config -d 'Check, sign and publish the controller configuration' -r -F
complete -c gse -l check-config -d 'Check the configuration, as machines will read it' -r -F
complete -c gse -l build-controller -d 'Build the controller\'s initramfs for the kernel whose modules are in MODDIR' -r -F
complete -c gse -s b -l base -d 'Build a system from this base, in parts; goes on with a build that was interrupted' -r -f -a "catalyst\t'A stage3 that catalyst makes here, from source'
precomp\t'The latest stage3 of the Release Engineering team'"
complete -c gse -l local -d 'With --base: logs, states, downloads and the system that is being built' -r -F
complete -c gse -l lawful-good -d 'With --base: leave out these hook points (gparta, gupdate, ..., all); wins over --enforce' -r
complete -c gse -l enforce -d 'With --base: do these hook points by force, even where they are done' -r
complete -c gse -l sdir -d 'With --base: the directory of your scripts around hook points' -r -F
complete -c gse -l do -d 'With --sdir: names of scripts; the lists between spaces pair with the hook points of -g' -r
complete -c gse -s g -d 'With --sdir: hook points between commas, - before and + after each (-gparta,+gupdate)' -r
complete -c gse -l auto -d 'With --base: whether questions are asked; they are, but with --verbose, where they would be lost' -r -f -a "yes\t'Questions are asked'
no\t'Nothing is asked'"
complete -c gse -l on-failure -d 'With --base: what happens after a failure when nobody is asked' -r -f -a "stop\t'The build ends, to be gone on with'
skip\t'It goes on without what failed: emerge without the package, everything else without the command'"
complete -c gse -l mark -d 'With --base and --version: whether machines take the system next, or it only lies ready (asked, without it)' -r -f -a "yes\t'Machines take it at their next start'
no\t'It lies ready in images/'"
complete -c gse -l distcc -d 'With --base: compile on the hosts of distcc.hosts in build.toml, with or without pump mode' -r -f -a "no\t'Everything is compiled here'
on\t'Compilation goes to the hosts'
pump\t'Preprocessing too'"
complete -c gse -l ccache -d 'With --base: keep what was compiled for later builds' -r -f -a "on\t'It is used'
no\t'It is not'"
complete -c gse -l kernel -d 'With --base: a kernel that is ready, which goes to /boot. With --archive: one whose modules the tree has, and which machines that start from their own disk get together with it' -r -F
complete -c gse -l initrd -d 'With --base: an initramfs that is ready, which goes to /boot. With --archive: the controller\'s, for --kernel' -r -F
complete -c gse -l step -d 'Set by gse itself: a step of the build, done in the new system' -r
complete -c gse -l config -d 'With --base and --build-controller: the configuration' -r -F
complete -c gse -l controller -d 'With --build-controller: the controller\'s static binary; $GSE_CONTROLLER or the one beside gse otherwise' -r -F
complete -c gse -l drivers -d 'With --build-controller: drivers by name or class (default: disk, net, usb, input, virtio, hyperv, xen, crypto, watchdog; beside it: nfs, server, san, fabric, cloud, rare, all). Add some with default,server' -r
complete -c gse -l output -d 'With --build-controller: write here instead of DIST/controller/<kernel>/initramfs.img' -r -F
complete -c gse -l image -d 'With --build-controller: which images; both, where dracut is installed, unless --output names one' -r -f -a "own\t'The controller\'s own initramfs'
dracut\t'The one that dracut makes of GSE\'s modules'
both\t'Both'"
complete -c gse -l cmdline -d 'With --build-controller: kernel options that count wherever the boot loader gives no others' -r
complete -c gse -l modules -d 'With --build-controller: options of kernel modules, a file for /etc/modprobe.d/' -r -F
complete -c gse -l hook -d 'With --build-controller: run a SCRIPT in dracut\'s image, such as --hook="pre-mount 30" vlan.sh' -r
complete -c gse -l net -d 'With --build-controller: a script for complex networks, at pre-mount 08 in dracut\'s image' -r -F
complete -c gse -l dracut_opt -d 'With --build-controller: options for dracut' -r
complete -c gse -l without -d 'With --build-controller: modules of GSE that dracut\'s image does without (gse-network, gse-storage, …)' -r
complete -c gse -l diff -d 'Compare two published versions: packages, files, sizes' -r
complete -c gse -l default -d 'Make a version that is published the one that machines take next' -r
complete -c gse -l withdraw -d 'Offer a version no longer; if machines take it now, the newest other one takes its place' -r
complete -c gse -l prune -d 'Show which images are no longer needed: withdrawn ones, and all but the default and the KEEP newest [default: 1]. With --force, remove them' -r
complete -c gse -l time-state -d 'With another command: save flags and configuration as the state NAME, before they are used. Alone: ? lists the states, -N deletes the one with number N' -r
complete -c gse -l time-warp -d 'Run the saved state N again, given by its number or name; the only flag then, beside --local' -r
complete -c gse -l edit -d 'Edit the configuration of the saved state N, which is then checked' -r
complete -c gse -l serve -d 'Serve DIST' -r
complete -c gse -l tls-cert -d 'With --serve: certificate chain, PEM' -r -F
complete -c gse -l tls-key -d 'With --serve: private key, PEM' -r -F
complete -c gse -l verify -d 'Check an image, index, release or configuration against a key' -r -F
complete -c gse -l pub -d 'With --verify: the public key; with --archive: an older one that signed the last release' -r -F
complete -c gse -l sign -d 'Sign the content of a directory for BOOTFS, such as etc.tar.zst: `archive` in mounts.toml' -r -F
complete -c gse -l dist -d 'What is published, and what signs it' -r -F
complete -c gse -l key -d 'The secret key that signs' -r -F
complete -c gse -l menu -d 'The main menu, as without any flag; other flags are carried into the builds that it starts (-mm)'
complete -c gse -l password -d 'With --keygen: protect the secret key with a password'
complete -c gse -l allow-downgrade -d 'Let machines that have a higher serial take this release'
complete -c gse -l fetch-new -d 'With --base: fetch the stage3 and the snapshot again even where good ones are here (-fn)'
complete -c gse -l force-new -d 'With --base: begin anew, and ask nothing'
complete -c gse -s k -l keep -d 'With --base: as --force-new, but the earlier system is kept aside'
complete -c gse -s v -l verbose -d 'With --base: show every command too'
complete -c gse -s q -l quiet -d 'With --base: one plain line a step'
complete -c gse -l no-kernel -d 'With --base: no kernel, and so no initramfs (-nk)'
complete -c gse -l no-initramfs -d 'With --base: no initramfs (-ni)'
complete -c gse -l build-minimal -d 'With --base: only essential packages, no kernel, no documentation, no ebuild repository (-bm)'
complete -c gse -l inside -d 'Set by gse itself: this process is the build'
complete -c gse -l force -d 'With --build-controller: write over an existing image'
complete -c gse -l releases -d 'List what is published in DIST'
complete -c gse -l health-check -d 'Check gse\'s own files for modifications (-hc)'
complete -c gse -l replace-new -d 'Put back the default configuration; what was changed is kept aside (-rpn)'
complete -c gse -l json -d 'Write results as JSON'
