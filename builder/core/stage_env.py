"""The variables that a stage gets. No other place computes them; docs/offline.md has the reason for each."""

from __future__ import annotations

from collections.abc import Mapping

INHERITED = ("PATH", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")
"""The caller's variables that a stage gets, with ``LC_*``: no token, no proxy, no PYTHONPATH."""


def stage_environment(*, models: str, scratch: str, threads: int, inherit: Mapping[str, str]) -> dict[str, str]:
    """A stage's whole environment; offline by construction.

    Args:
        models: the models root.
        scratch: a writable folder for libraries that need a home.
        threads: for OpenMP.
        inherit: the caller's environment, from which only :data:`INHERITED` and ``LC_*`` are taken.
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
        "ORT_DISABLE_TELEMETRY": "1",  # which also looks for /tmp/.ses
        "GNUTLS_SYSTEM_PRIORITY_FILE": "/dev/null",  # PyAV's reads /tmp/vendor/etc/gnutls/config, which is anybody's
        "MPLCONFIGDIR": scratch,
        "XDG_CACHE_HOME": scratch,
        "HOME": scratch,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }
