#!/usr/bin/env bash
# See to the programs that a few tests drive: install them where that can be done, else say what follows.
set -u
PATH="$PATH:/usr/sbin:/usr/local/sbin"
missing=()
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
command -v node >/dev/null || command -v nodejs >/dev/null || missing+=(nodejs)
command -v haproxy >/dev/null || missing+=(haproxy)
command -v nginx >/dev/null || missing+=(nginx-light)
command -v promtool >/dev/null || missing+=(prometheus)
command -v javac >/dev/null || missing+=(default-jdk-headless)
[ "${#missing[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing ${missing[*]} for the tests that drive them, with apt (Chromium and the JDK: about 120 MB each to download)."
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
fi
if [ "${TEST_PROGRAMS:-}" = required ]; then
  echo "No ${missing[*]}, and the tests that drive them are required here." >&2
  exit 1
fi
echo "No ${missing[*]}: the tests that drive them will be skipped. Install these packages, or run make test as root, to run them."
