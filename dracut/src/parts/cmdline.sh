#!/bin/sh
# GSE: sourced by dracut. The controller says whether the kernel command line means this boot for it.
if gse-controller dracut cmdline; then
    # shellcheck disable=SC2034 # dracut reads both.
    root=gse rootok=1
fi
