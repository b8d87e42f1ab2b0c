#!/bin/sh
# Checks both models of the pipeline `reviews` on this machine's GPU and writes report.json (or what $1 names) beside this
# script. Further arguments go to gpu-check. It needs CUDA 13, from the system or from Python's nvidia packages.
set -eu
report=${1:-report.json}
case $report in /*) ;; *) report=$(pwd)/$report ;; esac
[ $# -eq 0 ] || shift
cd "$(dirname "$0")"

for folder in /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 /usr/local/nvidia/lib64 \
    "$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)"/*/lib; do
    [ -d "$folder" ] && LD_LIBRARY_PATH="$folder:${LD_LIBRARY_PATH:-}"
done
export LD_LIBRARY_PATH

exec ./gpu-check --pipeline reviews/pipeline.yaml --events reviews/models/events.jsonl \
    --onnxruntime lib/libonnxruntime.so \
    --model full=reviews/models/sentiment.full.f16.onnx \
    --model distilled=reviews/models/sentiment.distilled.f16.onnx \
    --json "$report" "$@"
