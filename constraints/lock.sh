#!/usr/bin/env bash
# Write the pins from what the two environments hold: `make lock` after an upgrade that passed `make test`.
#   lock.sh ENVIRONMENT SERVING_ENVIRONMENT DOCUMENTATION_ENVIRONMENT RELEASE_ENVIRONMENT
# The image's locks carry the hashes of every published file of a pinned version, for any processor and Python.
set -euo pipefail
cd "$(dirname "$0")"
all="../$1/bin/python"; serving="../$2/bin/python"; docs="../$3/bin/python"; release="../$4/bin/python"
"$all" -m pip freeze --exclude-editable | sed 's/+cpu$//' >all.txt  # a CPU build of torch is the same version
"$serving" -m pip freeze --exclude-editable >serving.txt
"$docs" -m pip freeze --exclude-editable >docs.txt
"$release" -m pip freeze --all --exclude-editable --exclude pip | grep -Fxv -f serving.txt >release.txt
python3 lowest.py >lowest.txt

scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/tools"; "$scratch/tools/bin/pip" install --quiet pip-tools
grep -v '^onnxruntime' serving.txt >"$scratch/pins.txt"
grep '^onnxruntime==' serving.txt >>"$scratch/pins-cpu.txt"; touch "$scratch/pins-gpu.txt"
for engine in cpu gpu; do
  "$scratch/tools/bin/pip-compile" --quiet --generate-hashes --strip-extras --no-annotate --no-header \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --extra "$engine" --extra signing --extra jwt \
    --constraint "$scratch/pins.txt" --constraint "$scratch/pins-$engine.txt" \
    --output-file "image-$engine.lock" ../pyproject.toml
done
