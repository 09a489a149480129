#!/bin/sh
# Installs reverb from a release (deploy/release makes one):
#
#   sh install.sh [--prefix FOLDER] [FROM]
#
# FROM is where the release is: a folder, or an address of http or https. Without it, the folder
# of this file is taken, so a release that was carried to a machine without internet installs
# itself. --prefix, or PREFIX in the environment, is /usr/local.
#
# The archive for this system is compared with SHA256SUMS of the same place. That finds what was
# broken on the way; it does not tell who made the release. Needs sha256sum or shasum, tar, and
# for an address curl or wget.
set -eu

# Where releases are published. Nobody has named a place yet: the owner who does writes its
# address here, and install.sh without FROM takes it where there is no release beside it.
published=''

usage() {
  echo "usage: install.sh [--prefix FOLDER] [FROM]"
  echo "  FROM             folder or http(s) address of a release; else the folder of install.sh${published:+, else $published}"
  echo "  --prefix FOLDER  install into FOLDER/bin (and FOLDER/share); else \$PREFIX, else /usr/local"
}

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

# get NAME copies a file of the release into the working folder.
get() {
  case $from in
  http://* | https://*)
    if command -v curl >/dev/null; then
      curl -fsSL -o "$work/$1" "$from/$1" || fail "$from/$1 cannot be fetched"
    elif command -v wget >/dev/null; then
      wget -q -O "$work/$1" "$from/$1" || fail "$from/$1 cannot be fetched"
    else
      fail "neither curl nor wget is here; fetch the release by other means and name its folder"
    fi
    ;;
  *) cp "$from/$1" "$work/$1" 2>/dev/null || fail "$from/$1 cannot be read" ;;
  esac
}

# put MODE FILE TARGET replaces TARGET in one step: a program that runs keeps its old file.
put() {
  if ! { mkdir -p "${3%/*}" && cp "$2" "$3.new" && chmod "$1" "$3.new" && mv -f "$3.new" "$3"; } 2>/dev/null; then
    fail "$3 cannot be written; run this as root, or name another folder with --prefix"
  fi
}

main() {
  prefix=${PREFIX:-/usr/local} from=
  while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    --prefix) [ $# -gt 1 ] || fail "--prefix needs a folder"; prefix=$2; shift ;;
    --prefix=*) prefix=${1#*=} ;;
    -*) usage >&2; exit 2 ;;
    *) [ -z "$from" ] || { usage >&2; exit 2; }; from=$1 ;;
    esac
    shift
  done
  if [ -z "$from" ]; then
    case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
    if [ -f "$here/SHA256SUMS" ]; then from=$here; else from=$published; fi
    [ -n "$from" ] || fail "there is no SHA256SUMS beside this file; name the folder or the address of a release"
  fi
  from=${from%/}

  if command -v sha256sum >/dev/null; then
    sum=sha256sum
  elif command -v shasum >/dev/null; then
    sum='shasum -a 256'
  else
    fail "neither sha256sum nor shasum is here, so the archive cannot be checked"
  fi
  os=$(uname -s | tr '[:upper:]' '[:lower:]') arch=$(uname -m)
  case $arch in x86_64 | amd64) arch=amd64 ;; aarch64 | arm64) arch=arm64 ;; esac
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM

  get SHA256SUMS
  # A line is the sum, a space, a space or *, and the name.
  line=$(grep -E "^[0-9a-f]{64} [ *]reverb-[0-9A-Za-z.-]+-$os-$arch\.tar\.gz\$" "$work/SHA256SUMS" || true)
  [ -n "$line" ] || fail "the release in $from has nothing for $os on $arch"
  [ "$(echo "$line" | wc -l)" -eq 1 ] || fail "SHA256SUMS in $from names several archives for $os on $arch"
  want=${line%% *} archive=${line#* ?}
  get "$archive"
  got=$($sum <"$work/$archive") && got=${got%% *}
  [ "$got" = "$want" ] || fail "$archive has the SHA-256 sum $got, but SHA256SUMS says $want; nothing was installed"

  # A link would lead put to another file, and a pipe would keep it waiting.
  if tar -tvzf "$work/$archive" | grep '^[^-d]' >/dev/null; then
    fail "$archive has entries that are neither files nor folders; nothing was installed"
  fi
  tar -xzf "$work/$archive" -C "$work"
  files=$work/${archive%.tar.gz}
  put 0755 "$files/reverb" "$prefix/bin/reverb"
  if [ -d "$files/completion" ]; then
    put 0644 "$files/completion/reverb.bash" "$prefix/share/bash-completion/completions/reverb"
    put 0644 "$files/completion/_reverb" "$prefix/share/zsh/site-functions/_reverb"
    put 0644 "$files/completion/reverb.fish" "$prefix/share/fish/vendor_completions.d/reverb.fish"
    put 0644 "$files/man/reverb.1" "$prefix/share/man/man1/reverb.1"
  fi
  echo "$prefix/bin/reverb: $("$prefix/bin/reverb" version)"
}

# The last line, so that half a download does nothing.
main "$@"
