#!/bin/sh
# GSE: `mount -t gse`, by which systemd asks for the root.
exec gse-controller dracut mount
