#!/usr/bin/env bash
# See to Chromium, which a few tests drive: install it where that can be done, else say what follows.
set -u
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing Chromium for the browser tests, with apt (about 120 MB to download)."
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
if [ "${BROWSER_TESTS:-}" = required ]; then
  echo "No Chromium, and the browser tests are required here." >&2
  exit 1
fi
echo "No Chromium: the browser tests will be skipped. Install the package chromium, or run make test as root, to run them."
