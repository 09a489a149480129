#!/bin/sh
# After the files are in their place. dpkg: configure [OLD-VERSION]; rpm: how many versions of
# the package there are now, the old one included.
set -e

case "$1" in
configure) old=$2 ;;
1) old= ;;
[2-9]) old=one ;;
*) exit 0 ;; # dpkg takes back an upgrade or a removal
esac

# The unit has DynamicUser=, and runs as the user of its own name where there is one. This one
# stays while nothing runs, so that a certificate can be given to it.
getent group reverb >/dev/null || groupadd --system reverb
getent passwd reverb >/dev/null ||
  useradd --system --gid reverb --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin reverb

if [ -d /run/systemd/system ]; then # systemd is what runs this machine
  systemctl daemon-reload || true
  if [ -n "$old" ]; then
    # A server that runs is started anew, and one that does not stays as it is. reverb.socket
    # keeps its socket: nobody is refused meanwhile.
    systemctl try-restart reverb.service ||
      echo "reverb: the new version does not start; systemctl status reverb says why" >&2
  fi
fi
if [ -f /etc/systemd/system/reverb.service ]; then
  echo "reverb: /etc/systemd/system/reverb.service hides the unit of this package; remove it, unless it is meant to" >&2
fi
if [ -z "$old" ] && [ ! -e /etc/reverb/app-secret ]; then
  echo "reverb: put the app's ID and key into /etc/reverb/reverb.env and its secret into /etc/reverb/app-secret (mode 0600), then: systemctl enable --now reverb"
fi
