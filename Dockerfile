# The same base in both stages: the environment refers to the interpreter by its path.
FROM python:3.11-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.lock build.lock ./
# The environment has no pip of its own. The build backend stays in this stage. Wheels only: what has none for this
# architecture fails here and now, instead of asking for a compiler.
RUN python -m venv --without-pip /opt/watcher \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: -r build.lock \
 && /opt/build/bin/pip --python /opt/watcher/bin/python install --quiet --no-compile --no-deps --require-hashes \
    --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY watcher ./watcher
# Compiled here, as the image runs without writing anything, and without looking at the sources' times.
# `state` becomes the folders that the daemon writes to; made here, since nothing runs in the last stage.
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /build/dist . \
 && /opt/build/bin/pip --python /opt/watcher/bin/python install --quiet --no-compile --no-deps --no-index /build/dist/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/watcher/lib \
 && mkdir /build/state

# Only files are added: any architecture that the base and the wheels exist for, and no shell is used.
FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="operation-watcher" \
      org.opencontainers.image.description="Follows Twilio push-notification operations and turns them into metrics, alerts and log events." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.authors="The operation-watcher authors" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
ENV PATH=/opt/watcher/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=builder /opt/watcher /opt/watcher
# watcher.db is written to /data unless `storage.url` says another place; /run/watcher is for `admin.listen: unix:…`.
# Owned by the user, and so are volumes that are mounted there when they are new.
COPY --from=builder --chown=65532:65532 /build/state /data
COPY --from=builder --chown=65532:65532 /build/state /run/watcher
WORKDIR /data
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 10617
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["watcher", "healthcheck"]
ENTRYPOINT ["watcher"]
CMD ["run"]
