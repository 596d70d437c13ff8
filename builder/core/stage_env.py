"""The variables a stage gets: computed here and nowhere else (docs/offline.md says why each is there)."""

from __future__ import annotations

from collections.abc import Mapping

INHERITED = ("PATH", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")
"""What a stage takes over from its caller, with ``LC_*``. No token, no proxy, no PYTHONPATH."""


def stage_environment(*, models: str, scratch: str, threads: int, inherit: Mapping[str, str]) -> dict[str, str]:
    """A stage's whole environment; offline by construction.

    Args:
        models: the root of the tree of weights.
        scratch: a writable folder for libraries that insist on a home.
        threads: for OpenMP.
        inherit: the caller's environment, of which only :data:`INHERITED` is taken.
    """
    taken = {name: value for name, value in inherit.items() if name in INHERITED or name.startswith("LC_")}
    return {
        **taken,
        "BAKE_MODELS": models,
        "HF_HOME": models,
        "HF_HUB_CACHE": f"{models}/hub",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TORCH_HOME": f"{models}/torch",
        "NLTK_DATA": f"{models}/nltk_data",
        "PYANNOTE_METRICS_ENABLED": "false",
        "ORT_DISABLE_TELEMETRY": "1",
        "MPLCONFIGDIR": scratch,
        "XDG_CACHE_HOME": scratch,
        "HOME": scratch,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }
