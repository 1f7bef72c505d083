# The same base in both stages: the environment refers to the interpreter by its path.
FROM python:3.11-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.lock build.lock ./
# The environment has no pip of its own. The build backend stays in this stage.
RUN python -m venv --without-pip /opt/watcher \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --no-deps --require-hashes -r build.lock \
 && /opt/build/bin/pip --python /opt/watcher/bin/python install --quiet --no-compile --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY watcher ./watcher
# Compiled here, as the image runs without writing anything, and without looking at the sources' times.
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /build/dist . \
 && /opt/build/bin/pip --python /opt/watcher/bin/python install --quiet --no-compile --no-deps --no-index /build/dist/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/watcher/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="operation-watcher" \
      org.opencontainers.image.description="Follows Twilio push-notification operations and turns them into metrics, alerts and log events." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/watcher/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=builder /opt/watcher /opt/watcher
# Owned by the user: watcher.db is written here unless `storage.url` says another place.
RUN mkdir /data && chown 65532:65532 /data
WORKDIR /data
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 10617
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["watcher", "healthcheck"]
ENTRYPOINT ["watcher"]
CMD ["run"]
