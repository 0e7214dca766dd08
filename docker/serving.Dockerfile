# One image per bundle. Two targets, so that a new model adds one layer and nothing is installed again. A release with
# `package: {target: docker}` builds both, without a network: what is installed was downloaded before.
#
#   runtime   context: wheels/, requirements.txt (the engine, in the version that evaluated), the same in shared/ (what the
#             server needs besides), app/ (Shipway's own packages), libraries/ (of the system, which slim bases lack)
#   serving   context: the bundle's folder
#
# It is run with a read-only root, no capabilities, and its port on loopback.

# Pin by digest where it is built: package: {base_image: "python:3.11-slim-bookworm@sha256:<digest>"}
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=runtime

FROM ${BASE_IMAGE} AS runtime
ENV PATH=/opt/shipway/bin:$PATH \
    PYTHONPATH=/opt/shipway/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1
# What every engine's runtime has is the same layer in all of them.
RUN --mount=type=bind,source=shared,target=/build \
    python3 -m venv /opt/shipway && \
    pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps --find-links /build/wheels \
        -r /build/requirements.txt
ARG ENGINE_MODULE
RUN --mount=type=bind,target=/build \
    pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps --find-links /build/wheels \
        -r /build/requirements.txt && \
    cp -r /build/app /opt/shipway/app && \
    for library in /build/libraries/*; do \
        [ ! -e "$library" ] || ldconfig -p | grep -qF "$(basename "$library")" || cp "$library" /usr/local/lib/; \
    done && \
    ldconfig && \
    python -c "import ${ENGINE_MODULE}" && \
    python -m compileall -q /opt/shipway

FROM ${RUNTIME_IMAGE} AS serving
ARG DIGEST
# minbase images have no useradd: a number is enough, and Kubernetes can check that it is not root.
USER 10001:10001
WORKDIR /tmp
ENV SHIPWAY_DIGEST=${DIGEST}
LABEL org.opencontainers.image.title="shipway model server"
EXPOSE 8080
# An answer of a model that generates waits for those before it.
HEALTHCHECK --interval=10s --timeout=65s --start-period=120s --retries=3 CMD ["python", "-m", "pipelines.serving.server.alive"]
ENTRYPOINT ["sh", "-c", "exec python -m pipelines.serving.server --bundle /srv/bundle --digest \"$SHIPWAY_DIGEST\" --host 0.0.0.0 --port 8080 \"$@\"", "server"]
# The weights come last: a new version pushes only this layer. The server hashes them against the digest at its start.
COPY . /srv/bundle
