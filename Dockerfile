# Images of Rubrika, one target each: docker build --target api|worker|worker-gpu .
# Dependencies are installed before the source is copied, so a change of code rebuilds nothing but the last layers.
# The source lies in /app as in a checkout: migrations and the shipped model are found beside it.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    RUBRIKA_DATA_DIR=/data
# Cached networks are kept in /data; it is the home of the user, so that libraries write nowhere else.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin rubrika \
    && install -d -o rubrika -g rubrika /data
WORKDIR /app
COPY pyproject.toml README.md constraints.txt ./
# No package lies here yet: this installs the dependencies, and of Rubrika no more than its name and version.
RUN pip install --constraint constraints.txt .
ENTRYPOINT ["python", "-m", "cli.main"]
CMD ["--help"]

# The API and the page, the migrations and the sweeper: everything that needs no model.
FROM base AS api
COPY jobs/ jobs/
COPY cli/ cli/
COPY migrations/ migrations/
COPY worker/ worker/
COPY web/ web/
COPY api/ api/
COPY rubrika_client/ rubrika_client/
USER rubrika
EXPOSE 8000
CMD ["api"]

# A worker on a CPU, with the shipped model. Another model folder is mounted and named by RUBRIKA_MODEL.
FROM base AS worker
COPY jobs/ jobs/
COPY cli/ cli/
COPY ml/ ml/
COPY worker/ worker/
COPY rubrika_client/ rubrika_client/
USER rubrika
VOLUME /data
CMD ["worker"]

# A worker on an NVIDIA GPU. The wheel of torch brings its CUDA libraries; the host brings the driver.
FROM base AS worker-gpu
# What torch has compiled is kept beside the cached networks: /tmp is small, emptied, and runs nothing.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TORCHINDUCTOR_CACHE_DIR=/data/inductor \
    TRITON_CACHE_DIR=/data/triton
# torch compiles for the card that it finds, and needs a C compiler for that; without one it runs, more slowly.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN pip install --constraint constraints.txt '.[gpu]'
COPY jobs/ jobs/
COPY cli/ cli/
COPY ml/ ml/
COPY worker/ worker/
COPY rubrika_client/ rubrika_client/
USER rubrika
VOLUME /data
CMD ["worker"]
