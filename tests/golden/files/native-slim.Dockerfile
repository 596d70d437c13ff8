# Rendered by whisperbake for native, slim. All of it: docker buildx bake
# One of them: docker build --target mux .
# A site's own CA bundle and pip settings (PIP_INDEX_URL=…, a line each): BAKE_CA=FILE BAKE_SITE=FILE docker buildx bake

# The root file system beside this file was made from Debian's packages: no image registry is needed.
FROM scratch AS root
ADD rootfs.tar /

FROM root AS tools
# Bytecode without the columns that tracebacks underline: a fifteenth smaller.
ENV PYTHONNODEBUGRANGES=1
COPY tools /tools
RUN --mount=type=secret,id=ca --mount=type=secret,id=site \
    ["python3", "/tools/steps.py", "tools"]

FROM tools AS made-base
RUN ["python3", "/tools/steps.py", "base"]

FROM tools AS libraries-base
COPY requirements/base.txt /requirements.txt
ARG TARGETARCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-${TARGETARCH},target=/cache \
    ["python3", "/tools/steps.py", "libraries", "/requirements.txt"]

FROM tools AS libraries-base-ml
COPY requirements/base-ml.txt /requirements.txt
ARG TARGETARCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-${TARGETARCH},target=/cache \
    ["python3", "/tools/steps.py", "libraries", "/requirements.txt"]

FROM tools AS libraries-demux-mux
COPY requirements/demux-mux.txt /requirements.txt
ARG TARGETARCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-${TARGETARCH},target=/cache \
    ["python3", "/tools/steps.py", "libraries", "/requirements.txt"]

FROM tools AS code-demux
COPY stages/*.py /src/
COPY stages/demux /src/demux
RUN ["python3", "/tools/steps.py", "code", "demux"]

FROM tools AS code-mux
COPY stages/*.py /src/
COPY stages/mux /src/mux
RUN ["python3", "/tools/steps.py", "code", "mux"]

FROM root AS base
COPY --link --from=made-base /out/ /
COPY --link --from=libraries-base /out/ /
ENV BAKE_MODELS="/models"
ENV HF_HOME="/models"
ENV HF_HUB_CACHE="/models/hub"
ENV HF_HUB_OFFLINE="1"
ENV HF_HUB_DISABLE_TELEMETRY="1"
ENV TORCH_HOME="/models/torch"
ENV NLTK_DATA="/models/nltk_data"
ENV PYANNOTE_METRICS_ENABLED="false"
ENV ORT_DISABLE_TELEMETRY="1"
ENV GNUTLS_SYSTEM_PRIORITY_FILE="/dev/null"
ENV MPLCONFIGDIR="/tmp"
ENV XDG_CACHE_HOME="/tmp"
ENV HOME="/tmp"
ENV PYTHONUNBUFFERED="1"
ENV PYTHONPATH="/opt/bake/lib"
ENV PYTHONDONTWRITEBYTECODE="1"
ENV LANG="C.UTF-8"
USER 1000:0

FROM base AS base-ml
COPY --link --from=libraries-base-ml /out/ /

FROM base-ml AS demux
COPY --link --from=libraries-demux-mux /out/ /
COPY --link --from=code-demux /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/demux/main.py"]

FROM base-ml AS mux
COPY --link --from=libraries-demux-mux /out/ /
COPY --link --from=code-mux /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/mux/main.py"]

