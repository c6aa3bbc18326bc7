#!/bin/sh
# GSE: sourced by dracut; "gse" is what the controller made of root= when it claimed this boot.
# shellcheck disable=SC2154 # Variables that nothing here sets are dracut's.
[ "$root" != gse ] || gse-controller dracut @PHASE@
