#!/bin/sh
# In place of Debian's programs of this name, and of deb-systemd-invoke, for packages that scripts/deps installs: their
# services are not started. Packages call them by their names alone, so it is enough to be found first.
