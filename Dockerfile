# syntax=docker/dockerfile:1
# mmf-node in a container. CPU:  docker build -t mmf-node .
#                          CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t mmf-node:cuda .
#                          with mmf-train (adds scikit-survival, GPL-3): --build-arg EXTRAS=train
# An empty TORCH_INDEX takes torch from the registry that pip is set up with. `make image-check` builds and tries it.
# The first stage has the compiler that pyradiomics needs; the last one has not.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=
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
# What the project needs, before the project itself: a change of the code rebuilds the last layer alone.
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY conf conf
COPY engines engines
COPY node node
COPY train train
RUN pip install -c constraints.txt ".${EXTRAS:+[${EXTRAS}]}"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="mmf-node" \
      org.opencontainers.image.description="DICOM node for the MMF survival risk in unresectable liver cancer. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 mmf \
    && useradd --no-log-init --uid 10001 --gid mmf --no-create-home --home-dir /data --shell /usr/sbin/nologin mmf \
    && install -d -o mmf -g mmf -m 0750 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MMF_CONF=/etc/mmf-node
# These settings listen on 127.0.0.1 alone: mount a node.toml with an allow-list over them (README, "In containers").
COPY conf /etc/mmf-node
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["mmf-node", "status", "--healthy", "--data", "/data"]
ENTRYPOINT ["mmf-node"]
CMD ["serve", "--data", "/data"]
