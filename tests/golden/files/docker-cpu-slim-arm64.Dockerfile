# Rendered by whisperbake for docker-cpu, slim, linux/arm64. All of it: docker buildx bake
# One of them: docker build --target vad .
# Weights: ENVIRONMENT=production (the default) bakes them in, development leaves them out; one at a time:
# WITH_CMUSPHINX_FR=yes or no. A gated model: HF_TOKEN=… docker buildx bake
# A site's own CA bundle and pip settings (PIP_INDEX_URL=…, a line each): BAKE_CA=FILE BAKE_SITE=FILE docker buildx bake

ARG ENVIRONMENT=production
ARG WITH_CMUSPHINX_FR=${ENVIRONMENT}
ARG WITH_BASE=${ENVIRONMENT}
ARG WITH_CAMPPLUS=${ENVIRONMENT}
ARG WITH_SEGMENTATION_3_0=${ENVIRONMENT}
ARG WITH_SILERO_VAD=${ENVIRONMENT}

# Images of linux/arm64: build steps run on the builder's own platform, and nothing of the images' platform runs.
# Root file systems from Debian's packages: the images' own, and one of this machine's platform for the steps.
FROM scratch AS root
ADD rootfs.tar /

FROM --platform=$BUILDPLATFORM scratch AS build-root
ADD rootfs-build.tar /

FROM build-root AS tools
# Bytecode without the columns that tracebacks underline: a fifteenth smaller.
ENV PYTHONNODEBUGRANGES=1
COPY tools /tools
RUN --mount=type=secret,id=ca --mount=type=secret,id=site \
    ["python3", "/tools/steps.py", "tools"]

FROM tools AS made-base
RUN --mount=type=bind,from=root,target=/target \
    ["python3", "/tools/foreign.py", "base", "aarch64"]

FROM tools AS libraries-align
COPY requirements/align.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-arm64,target=/cache \
    ["python3", "/tools/foreign.py", "libraries", "aarch64", "/requirements.txt"]

FROM tools AS libraries-asr-translate
COPY requirements/asr-translate.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-arm64,target=/cache \
    ["python3", "/tools/foreign.py", "libraries", "aarch64", "/requirements.txt"]

FROM tools AS libraries-base
COPY requirements/base.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-arm64,target=/cache \
    ["python3", "/tools/foreign.py", "libraries", "aarch64", "/requirements.txt"]

FROM tools AS libraries-base-ml
COPY requirements/base-ml.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-arm64,target=/cache \
    ["python3", "/tools/foreign.py", "libraries", "aarch64", "/requirements.txt"]

FROM tools AS libraries-demux-mux
COPY requirements/demux-mux.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-arm64,target=/cache \
    ["python3", "/tools/foreign.py", "libraries", "aarch64", "/requirements.txt"]

FROM tools AS libraries-diarize-music-separate-vad
COPY requirements/diarize-music-separate-vad.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=cache,id=whisperbake-uv-arm64,target=/cache \
    ["python3", "/tools/foreign.py", "libraries", "aarch64", "/requirements.txt"]

FROM tools AS code-subtitles
COPY stages/*.py /src/
COPY stages/subtitles /src/subtitles
RUN ["python3", "/tools/steps.py", "code", "subtitles"]

FROM tools AS code-align
COPY stages/*.py /src/
COPY stages/align /src/align
RUN ["python3", "/tools/steps.py", "code", "align"]

FROM tools AS code-asr
COPY stages/*.py /src/
COPY stages/asr /src/asr
RUN ["python3", "/tools/steps.py", "code", "asr"]

FROM tools AS code-demux
COPY stages/*.py /src/
COPY stages/demux /src/demux
RUN ["python3", "/tools/steps.py", "code", "demux"]

FROM tools AS code-diarize
COPY stages/*.py /src/
COPY stages/diarize /src/diarize
RUN ["python3", "/tools/steps.py", "code", "diarize"]

FROM tools AS code-mux
COPY stages/*.py /src/
COPY stages/mux /src/mux
RUN ["python3", "/tools/steps.py", "code", "mux"]

FROM tools AS code-vad
COPY stages/*.py /src/
COPY stages/vad /src/vad
RUN ["python3", "/tools/steps.py", "code", "vad"]

FROM scratch AS model-none
WORKDIR /out

FROM tools AS model-cmusphinx-fr-yes
COPY weights/fetch.py weights/cmusphinx-fr.json /weights/
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=secret,id=hf_token \
    ["python3", "/weights/fetch.py", "cmusphinx-fr"]
FROM model-none AS model-cmusphinx-fr-no
FROM model-cmusphinx-fr-yes AS model-cmusphinx-fr-production
FROM model-cmusphinx-fr-no AS model-cmusphinx-fr-development
FROM model-cmusphinx-fr-${WITH_CMUSPHINX_FR} AS model-cmusphinx-fr

FROM tools AS model-base-yes
COPY weights/fetch.py weights/base.json /weights/
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=secret,id=hf_token \
    ["python3", "/weights/fetch.py", "base"]
FROM model-none AS model-base-no
FROM model-base-yes AS model-base-production
FROM model-base-no AS model-base-development
FROM model-base-${WITH_BASE} AS model-base

FROM tools AS model-campplus-yes
COPY weights/fetch.py weights/convert.txt weights/campplus.json /weights/
COPY weights/builder /weights/builder
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=secret,id=hf_token \
    ["python3", "/weights/fetch.py", "campplus"]
FROM model-none AS model-campplus-no
FROM model-campplus-yes AS model-campplus-production
FROM model-campplus-no AS model-campplus-development
FROM model-campplus-${WITH_CAMPPLUS} AS model-campplus

FROM tools AS model-segmentation-3.0-yes
COPY weights/fetch.py weights/convert.txt weights/segmentation-3.0.json /weights/
COPY weights/builder /weights/builder
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=secret,id=hf_token \
    ["python3", "/weights/fetch.py", "segmentation-3.0"]
FROM model-none AS model-segmentation-3.0-no
FROM model-segmentation-3.0-yes AS model-segmentation-3.0-production
FROM model-segmentation-3.0-no AS model-segmentation-3.0-development
FROM model-segmentation-3.0-${WITH_SEGMENTATION_3_0} AS model-segmentation-3.0

FROM tools AS model-silero-vad-yes
COPY weights/fetch.py weights/silero-vad.json /weights/
RUN --mount=type=secret,id=ca --mount=type=secret,id=site --mount=type=secret,id=hf_token \
    ["python3", "/weights/fetch.py", "silero-vad"]
FROM model-none AS model-silero-vad-no
FROM model-silero-vad-yes AS model-silero-vad-production
FROM model-silero-vad-no AS model-silero-vad-development
FROM model-silero-vad-${WITH_SILERO_VAD} AS model-silero-vad

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

FROM base AS subtitles
COPY --link --from=code-subtitles /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/subtitles/main.py"]

FROM base-ml AS align
COPY --link --from=libraries-align /out/ /
COPY --link --from=model-cmusphinx-fr /out/ /
COPY --link --from=code-align /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/align/main.py"]

FROM base-ml AS asr
COPY --link --from=libraries-asr-translate /out/ /
COPY --link --from=model-base /out/ /
COPY --link --from=code-asr /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/asr/main.py"]

FROM base-ml AS demux
COPY --link --from=libraries-demux-mux /out/ /
COPY --link --from=code-demux /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/demux/main.py"]

FROM base-ml AS diarize
COPY --link --from=libraries-diarize-music-separate-vad /out/ /
COPY --link --from=model-campplus /out/ /
COPY --link --from=model-segmentation-3.0 /out/ /
COPY --link --from=code-diarize /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/diarize/main.py"]

FROM base-ml AS mux
COPY --link --from=libraries-demux-mux /out/ /
COPY --link --from=code-mux /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/mux/main.py"]

FROM base-ml AS vad
COPY --link --from=libraries-diarize-music-separate-vad /out/ /
COPY --link --from=model-silero-vad /out/ /
COPY --link --from=code-vad /out/ /
ENTRYPOINT ["/opt/bake/lib/bin/dumb-init", "--", "python3", "/opt/bake/stages/vad/main.py"]

