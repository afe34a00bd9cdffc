#!/bin/sh
# An environment of its own for circuit-tracer 0.5, which needs older transformers than the workbench.
#
#   benchmarks/circuit_tracer_environment.sh [FOLDER]     default: out/circuit-tracer
#
# torch comes first and by its exact version, because that one is a small CPU build where a plain `torch` brings CUDA.
set -eu
folder=${1:-out/circuit-tracer}
python=${PYTHON:-python3}
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet 'torch==2.13.0'
"$folder/bin/pip" install --quiet 'torch==2.13.0' 'circuit-tracer==0.5.0' 'transformers<=4.57.3' 'huggingface-hub<1.0'
"$folder/bin/python" -c 'import circuit_tracer; print("circuit-tracer", circuit_tracer.__version__, "is ready")'
