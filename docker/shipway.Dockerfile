# What decides and carries out releases: `shipway up` and the command line, with MLflow's and Prefect's programs.
#
#   python -m build --wheel && cp constraints.txt dist/
#   docker build -f docker/shipway.Dockerfile -t shipway:0.1.0 dist/

# Pin by digest where it is built: --build-arg BASE_IMAGE=python:3.11-slim-bookworm@sha256:<digest>
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE}
ENV PATH=/opt/shipway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SHIPWAY_HOME=/var/lib/shipway
# The machine's own certificates, where it has some, are lent to pip for this step and not kept.
RUN --mount=type=bind,target=/build \
    --mount=type=secret,id=ca,target=/run/ca.pem \
    if [ -s /run/ca.pem ]; then export PIP_CERT=/run/ca.pem; fi && \
    python3 -m venv /opt/shipway && \
    wheel="$(ls /build/shipway-*.whl)" && \
    pip install --no-cache-dir --disable-pip-version-check -c /build/constraints.txt "${wheel}[release,postgres]" && \
    python -m compileall -q /opt/shipway && \
    mkdir -p /var/lib/shipway && chown 10001:10001 /var/lib/shipway
USER 10001:10001
WORKDIR /var/lib/shipway
VOLUME /var/lib/shipway
ENTRYPOINT ["shipway"]
CMD ["up", "--port", "8900"]
