"""Where everything lies in the state folder: the one list of its names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STATE = (
    "cache",
    "history.jsonl",
    "history.lock",
    "images",
    "layout",
    "layout.lock",
    "logs",
    "models",
    "native",
    "secrets",
    "versions.json",
)
"""Every name in the state folder; without a project the jobs lie there too."""

CONTENTS = {
    name: re.compile(pattern)
    for name, pattern in {
        "cache": r"(hardware|project|preflight|budget|speeds|sizes|stage-images|bundles)\.json|budget\.(lock|new)|isolated"
        r"|models\.lock\.lock|base|wheelhouse|packed|acceptance|uploads|llm|tmdb|musicbrainz"
        r"|probes\.(jsonl|lock)",
        "images": r"(native|docker-cpu|docker-gpu)-(slim|full)",
        "layout": r"blobs|incoming|recipes|(images|digests|parts)\.json",
        "logs": r"build-[0-9-]+\.log|crash-[a-z0-9_]+\.log",
        "native": r"lock|tmp|(slim|full)-[0-9a-f]+(\.[0-9]+\.part)?",
    }.items()
}
"""Of folders in the state folder, the names that this program gives in them, apart from hidden ones. (Models: store.py.)"""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The state folder's places. Nothing here exists before somebody writes it."""

    home: Path
    """The state folder itself."""

    @property
    def models(self) -> Path:
        """The store of weights, in the hub cache's layout."""
        return self.home / "models"

    @property
    def layout(self) -> Path:
        """The images' layers and manifests, an OCI layout."""
        return self.home / "layout"

    @property
    def images(self) -> Path:
        """Rendered Dockerfiles and bake files, a folder for each mode and variant."""
        return self.home / "images"

    @property
    def logs(self) -> Path:
        """Logs of image builds, and reports of bugs."""
        return self.home / "logs"

    @property
    def history(self) -> Path:
        """Which images were built when, and how large they became: a line each."""
        return self.home / "history.jsonl"

    @property
    def versions(self) -> Path:
        """Which versions of images are kept, and which are held."""
        return self.home / "versions.json"

    @property
    def native(self) -> Path:
        """Native environments, a folder for each set of locks."""
        return self.home / "native"

    @property
    def secrets(self) -> Path:
        """The file with the hub's token."""
        return self.home / "secrets"

    @property
    def voices(self) -> Path:
        """Embeddings of people whom jobs know by their voices."""
        return self.home / "voices"

    @property
    def signatures(self) -> Path:
        """Signatures of images, as they are in registries, a file for each image."""
        return self.home / "signatures"

    @property
    def cache(self) -> Path:
        """What can be made again, and may be deleted at any time."""
        return self.home / "cache"

    @property
    def hardware(self) -> Path:
        """What this machine has, as last inspected."""
        return self.cache / "hardware.json"

    @property
    def project(self) -> Path:
        """What the project's files said when they were last checked."""
        return self.cache / "project.json"

    @property
    def preflight(self) -> Path:
        """Checks that need not run again before the next job."""
        return self.cache / "preflight.json"

    @property
    def budget(self) -> Path:
        """What running jobs have reserved of this machine."""
        return self.cache / "budget.json"

    @property
    def speeds(self) -> Path:
        """How long stages took here, for the time that is left of a job."""
        return self.cache / "speeds.json"

    @property
    def sizes(self) -> Path:
        """Sizes of Python packages, as measured in builds."""
        return self.cache / "sizes.json"

    @property
    def isolated(self) -> Path:
        """There once a native job's recordings were read in containers."""
        return self.cache / "isolated"

    @property
    def stage_images(self) -> Path:
        """The images that run the stages of the last job in containers."""
        return self.cache / "stage-images.json"

    @property
    def base(self) -> Path:
        """Root file systems of Debian bases."""
        return self.cache / "base"

    @property
    def wheelhouse(self) -> Path:
        """Wheels for bundles, a folder for each set of locks."""
        return self.cache / "wheelhouse"

    @property
    def packed(self) -> Path:
        """Compressed layers for bundles."""
        return self.cache / "packed"

    @property
    def bundles(self) -> Path:
        """When bundles were made, by their contents."""
        return self.cache / "bundles.json"

    @property
    def acceptance(self) -> Path:
        """Acceptance jobs of bundles and what they must say."""
        return self.cache / "acceptance"

    @property
    def uploads(self) -> Path:
        """Uploads to registries that can be resumed."""
        return self.cache / "uploads"

    @property
    def probes(self) -> Path:
        """How long recordings are that batches were planned of, by path, size and time of change."""
        return self.cache / "probes.jsonl"

    @property
    def llm(self) -> Path:
        """Answers of language models, by the sha256 of the question."""
        return self.cache / "llm"

    @property
    def lock_guard(self) -> Path:
        """Held by the process that writes models.lock."""
        return self.cache / "models.lock.lock"
