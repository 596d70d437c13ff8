#!/bin/sh
# Write the hash-locked requirements (make lock). --upgrade: take newer versions than the locks have.
set -eu
cd "$(dirname "$0")/.."
upgrade=${1:-}
lock() {
    uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links ${upgrade:+"$upgrade"} "$@"
}
lock pyproject.toml --output-file requirements/builder.txt
lock pyproject.toml --group dev --constraints requirements/builder.txt --output-file requirements/dev.txt
