# The worker: Curate and Beam's worker on CUDA, without a compiler, not as root. See README.md.
# Pin the bases by digest for production: --build-arg CUDA=nvidia/cuda@sha256:…
ARG CUDA=nvidia/cuda:12.6.3-base-ubuntu24.04
ARG BEAM=apache/beam_python3.12_sdk:2.77.0

FROM ${BEAM} AS beam

FROM ubuntu:24.04 AS build
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3.12-venv \
 && rm -rf /var/lib/apt/lists/*
COPY constraints.txt dist/curate-*.whl /tmp/
RUN python3.12 -m venv /opt/curate \
 && /opt/curate/bin/pip install --no-cache-dir --no-compile --only-binary=:all: --no-binary=google-apitools \
      --constraint /tmp/constraints.txt "$(ls /tmp/curate-*.whl)[dataflow,s3]" \
 && /opt/curate/bin/pip check

FROM ${CUDA}
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3.12 ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home curate
COPY --from=build /opt/curate /opt/curate
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV PATH=/opt/curate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
USER 10001
WORKDIR /home/curate
ENTRYPOINT ["/opt/apache/beam/boot"]
