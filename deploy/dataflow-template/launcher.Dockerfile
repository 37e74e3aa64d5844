# The launcher of the Flex Template: the worker image with Google's starter. See README.md.
ARG WORKER
FROM gcr.io/dataflow-templates-base/python312-template-launcher-base AS starter
FROM ${WORKER}
COPY --from=starter /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY deploy/dataflow-template/launch.py /home/curate/launch.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/home/curate/launch.py
ENTRYPOINT ["/opt/google/dataflow/python_template_launcher"]
