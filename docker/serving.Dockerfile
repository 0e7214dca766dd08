# One image per bundle. Two targets, so that a new model adds one layer and nothing is installed again:
#
#   docker build -f docker/serving.Dockerfile --target runtime -t shipway-runtime:onnxruntime dist/
#   docker build -f docker/serving.Dockerfile --build-arg RUNTIME_IMAGE=shipway-runtime:onnxruntime \
#                --build-arg DIGEST=sha256:<the bundle's> -t <name> <the bundle's folder>
#
# `dist/` holds shipway's wheel and constraints.txt. Run it with a read-only root, without capabilities, and publish
# the port on loopback: docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:8080:8080

# Pin by digest where it is built: --build-arg BASE_IMAGE=python:3.11-slim-bookworm@sha256:<digest>
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=runtime

FROM ${BASE_IMAGE} AS runtime
ARG ENGINE=onnxruntime
ENV PATH=/opt/shipway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1
# The machine's own certificates, where it has some, are lent to pip for this step and not kept.
RUN --mount=type=bind,target=/build \
    --mount=type=secret,id=ca,target=/run/ca.pem \
    if [ -s /run/ca.pem ]; then export PIP_CERT=/run/ca.pem; fi && \
    python3 -m venv /opt/shipway && \
    wheel="$(ls /build/shipway-*.whl)" && \
    pip install --no-cache-dir --disable-pip-version-check -c /build/constraints.txt "${wheel}[${ENGINE}]" && \
    python -m compileall -q /opt/shipway

FROM ${RUNTIME_IMAGE} AS serving
ARG DIGEST
ARG MODEL=model
ARG VERSION=0
# minbase images have no useradd: a number is enough, and Kubernetes can check that it is not root.
USER 10001:10001
WORKDIR /tmp
ENV SHIPWAY_DIGEST=${DIGEST} \
    SHIPWAY_MODEL=${MODEL} \
    SHIPWAY_VERSION=${VERSION}
LABEL org.opencontainers.image.title="shipway model server" \
      shipway.bundle_digest="${DIGEST}"
EXPOSE 8080
# Alive means that it answers a question: a server that only accepts connections is not.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", "import json, urllib.request as r; \
body = json.dumps({'inputs': ['is anybody there?']}).encode(); \
q = r.Request('http://127.0.0.1:8080/invocations', body, {'content-type': 'application/json'}); \
json.load(r.urlopen(q, timeout=4))['predictions'][0]"]
ENTRYPOINT ["sh", "-c", "exec python -m pipelines.serving.server --bundle /srv/bundle --digest \"$SHIPWAY_DIGEST\" --host 0.0.0.0 --port 8080 --model-name \"$SHIPWAY_MODEL\" --model-version \"$SHIPWAY_VERSION\""]
# The weights come last: a new version pushes only this layer. The server hashes them against the digest at its start.
COPY . /srv/bundle
