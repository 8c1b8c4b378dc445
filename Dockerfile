# The serving image: Python, the pinned serving packages, service/ and the bundles of models/. No torch, no compiler.
#
#   docker build -t batchproof:cpu .
#   docker build -t batchproof:gpu --build-arg ENGINE=gpu --build-arg BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 .
#
# onnxruntime-gpu 1.31 asks for CUDA 13 and cuDNN 9; a CUDA base brings no Python, so its distribution's own is added.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
ARG ENGINE=cpu
RUN command -v pip >/dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip)
COPY constraints/image-${ENGINE}.lock /tmp/image.lock
RUN python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: --no-compile --target /opt/batchproof --requirement /tmp/image.lock
# What serving never opens: converters, test suites, headers, type stubs, scripts, and the engine as a C library (its Python
# module holds a copy of its own).
RUN cd /opt/batchproof \
    && rm -rf bin onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/datasets \
        onnxruntime/capi/libonnxruntime.so* numpy/distutils numpy/f2py numpy/_core/include \
        numpy/_core/lib numpy/random/lib numpy/random/_examples \
    && find . -type d \( -name tests -o -name test -o -name testing \) -prune -exec rm -rf {} + \
    && find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.a' \) -delete
COPY batchproof/__init__.py batchproof/installation.py batchproof/scorer.py /opt/batchproof/batchproof/
COPY service /opt/batchproof/batchproof/service
# The root file system is read-only when it runs, so bytecode is made here; unchecked, because nothing changes it later.
# The time of the build would make two builds of one commit differ.
ARG SOURCE_DATE_EPOCH=0
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/batchproof \
    && find /opt/batchproof -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} +

FROM ${BASE}
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends python3-minimal libpython3-stdlib \
        && rm -rf /var/lib/apt/lists/*)
COPY --from=packages /opt/batchproof /opt/batchproof
COPY models /models
# Any user may run it, root too: everything is world-readable and only /tmp is written.
ENV PYTHONPATH=/opt/batchproof \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CONTAINER=batchproof
# From here `models`, the default folder, is /models. Address and port (0.0.0.0, 8080) follow from CONTAINER, below what a
# hosting platform says: service/configuration/platforms.py.
WORKDIR /
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as u; e = os.environ; u.urlopen('http://127.0.0.1:' + e.get('BATCHPROOF_PORT', e.get('PORT', '8080')) + '/health/ready', timeout=2)"]
ENTRYPOINT ["python3", "-m", "batchproof.service"]
CMD ["serve"]
