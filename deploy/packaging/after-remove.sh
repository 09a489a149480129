#!/bin/sh
# After the files are gone. dpkg: remove, purge, upgrade and others; rpm: how many versions of
# the package stay. The user stays, since files may belong to it.
set -e

case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
  ;;
purge) rm -rf /etc/reverb ;; # with the secret, which is not dpkg's
esac
