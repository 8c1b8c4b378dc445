#!/usr/bin/env bash
# Build the wheel of the last commit: the same commit gives the same bytes, whoever builds it, where and when.
#   wheel.sh PYTHON TARGET_FOLDER
# The files come from the commit, not from the checkout, so modes, times and what lies beside them count for nothing. The
# version of setuptools does count: it stands in the wheel.
set -euo pipefail
python=$(realpath --no-symlinks "$1"); mkdir -p "$2"; target=$(realpath "$2")
umask 022
cd "$(dirname "$0")/.."
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct); export SOURCE_DATE_EPOCH
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
git -c tar.umask=0022 archive --format=tar HEAD | tar --extract --preserve-permissions --directory "$scratch"
cd "$scratch"
"$python" -c 'import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])' "$target" >/dev/null
sha256sum "$target"/batchproof-*.whl
