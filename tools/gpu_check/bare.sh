#!/usr/bin/env bash
# `make gpu-check` on a machine without network, whose python3 has PyTorch and CUDA: `bare.sh WHEELS OUTPUT [SHAPES]`. It
# makes the environments from that Python and the folder of `make gpu-wheels`, and leaves those alone that are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=$(realpath "$1") output=$(realpath -m "$2")
python=${PYTHON:-python3}
installed=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

for environment in core jobs unsloth; do
  folder=.venv-$environment
  [ "$environment" != core ] || folder=.venv
  [ ! -e "$folder" ] || continue
  "$python" -m venv --without-pip "$folder"
  site=$(echo "$folder"/lib/python3*/site-packages)
  # What is brought comes first, then what is installed here; jobs find the code from any folder.
  printf '%s\n' "$installed" "$PWD" >"$site/machine.pth"
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check --target "$site" "$wheels/$environment"/*.whl
done

# A job inherits no environment: the driver that only LD_LIBRARY_PATH names must be known to the loader.
if [ -n "${LD_LIBRARY_PATH:-}" ] && [ -w /etc/ld.so.conf.d ]; then
  tr ':' '\n' <<<"$LD_LIBRARY_PATH" >/etc/ld.so.conf.d/gpu-check.conf
  ldconfig
fi
# Bases are written and read faster in memory.
free=$(df --output=avail -BG /dev/shm 2>/dev/null | tr -dc 0-9 || true)
if [ "${free:-0}" -ge 24 ]; then export TMPDIR=/dev/shm; fi

mkdir -p "$output"
failed=0
.venv/bin/python -m tools.gpu_check.proof 2>&1 | tee "$output/proof.txt" || failed=1
.venv/bin/python -m tools.gpu_check.forge --output "$output" ${3:+--shapes "$3"} || failed=1
cat "$output/table.md"
exit "$failed"
