# `curate serve` and `curate run` on one machine, without a GPU or a compiler, not as root. See README.md.
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
COPY constraints.txt dist/curate-*.whl /tmp/
RUN python -m venv /opt/curate \
 && /opt/curate/bin/pip install --no-cache-dir --no-compile --only-binary=:all: \
      --constraint /tmp/constraints.txt "$(ls /tmp/curate-*.whl)[s3,gcs]" \
 && /opt/curate/bin/pip check

FROM ${PYTHON}
RUN useradd --uid 10001 --create-home curate && install -d -o 10001 -g 10001 /data
COPY --from=build /opt/curate /opt/curate
ENV PATH=/opt/curate/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["curate"]
CMD ["--help"]
