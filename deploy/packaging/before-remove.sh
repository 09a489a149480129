#!/bin/sh
# Before the files go. dpkg: remove, or upgrade NEW-VERSION; rpm: how many versions of the
# package stay. An upgrade stops nothing: after-install.sh of the new version restarts.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

if command -v systemctl >/dev/null; then
  now=
  if [ -d /run/systemd/system ]; then now=--now; fi # else there is nothing to stop
  # The socket too, or a connection would start the service again.
  systemctl --no-reload disable $now reverb.socket reverb.service || true
fi
