#!/bin/sh
# The base image of runes and jobs, made without a registry: image.sh FILE.tar, as root; then `docker import FILE.tar soulforge/base`.
# Debian 12 with Python 3.11 and what torch and vLLM need of a system. The environments and the code come in as read-only binds.
set -eu

target=${1:?usage: image.sh FILE.tar}
for file in "$target" "$target.partial"; do
  [ ! -e "$file" ] && [ ! -L "$file" ] || { echo "$file exists: name a new file, or remove it" >&2; exit 1; }
done
suite=bookworm
# numactl's library and a C compiler are used by vLLM on a CPU at run time; libgomp1 and libstdc++6 come with the compiler.
packages=python3,libnuma1,gcc,libc6-dev

command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "a root file system is made by root: run this with sudo" >&2; exit 1; }

root=$(mktemp -d)
trap 'rm -rf "$root" "$target.partial"' EXIT
debootstrap --variant=minbase --include="$packages" "$suite" "$root"
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/var/log/* "$root"/usr/share/doc "$root"/usr/share/man \
  "$root"/usr/share/locale "$root"/dev/* "$root"/proc/* "$root"/sys/* "$root"/tmp/* "$root"/run/*
tar -C "$root" --numeric-owner -cf "$target.partial" .
mv -n "$target.partial" "$target"
