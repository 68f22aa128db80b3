# syntax=docker/dockerfile:1
# mmf-node in a container. CPU:  docker build -t mmf-node .
#                          CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t mmf-node:cuda .
# The first stage has the compiler that pyradiomics needs; the last one has not.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN if [ -n "${TORCH_INDEX}" ]; then set -- --index-url "${TORCH_INDEX}"; else set --; fi \
    && pip install "$@" "torch>=2.10,<2.14"
RUN pip install -c constraints.txt numpy setuptools wheel \
    && pip install -c constraints.txt --no-build-isolation pyradiomics==3.0.1
COPY pyproject.toml README.md LICENSE ./
COPY node node
COPY engines engines
COPY train train
COPY conf conf
RUN pip install -c constraints.txt .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="mmf-node" \
      org.opencontainers.image.description="DICOM node for the MMF survival risk in unresectable liver cancer. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 mmf \
    && useradd --system --uid 10001 --gid mmf --home-dir /data --shell /usr/sbin/nologin mmf \
    && install -d -o mmf -g mmf -m 0750 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 MMF_CONF=/etc/mmf-node
COPY conf /etc/mmf-node
USER mmf
WORKDIR /data
VOLUME /data
EXPOSE 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["mmf-node", "status", "--healthy", "--data", "/data"]
ENTRYPOINT ["mmf-node"]
CMD ["serve", "--data", "/data"]
