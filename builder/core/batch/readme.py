"""README.md beside the files for an engine: what they are, what to type, how nodes get what they run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builder.core.batch import htcondor, kubernetes, slurm
from builder.core.batch.rendering import NODE, RenderedBatch
from builder.core.batch.steps import FILE as STEPS
from builder.core.quoting import environment
from builder.program import LAUNCHER, shell_word

FILE = "README.md"

NATIVE, REGISTRY, LOADED = "native", "registry", "loaded"
"""How nodes get what they run."""

CHOSEN = {
    NATIVE: "a shared native environment",
    REGISTRY: "images from a registry",
    LOADED: "images that are loaded on each node",
}


@dataclass(frozen=True, kw_only=True)
class EngineManual:
    """What an engine's part of the page says."""

    title: str
    files: Sequence[tuple[str, str]]
    """Name -> what it is."""
    submit: Sequence[str]
    """What to type in this folder."""
    watch: Sequence[str]
    codes: Mapping[int, str]
    """Exit code -> what the engine does; 1 stands for all others."""
    signal: str
    """What becomes of a shard that is ended from outside."""
    before: Sequence[str] = ()
    """What has to be there first."""
    after: str = ""
    notes: Sequence[str] = field(default=())


def render(
    batch: RenderedBatch,
    templates: Mapping[str, str],
    *,
    engine: str,
    folder: str,
    mode: str,
    way: str,
    python: str = "",
    claims: bool = False,
    weights: str = "",
) -> str:
    """The page.

    Args:
        folder: the batch's, as it is typed on this machine.
        mode: the batch's.
        way: :data:`NATIVE`, :data:`REGISTRY` or :data:`LOADED`.
        python: the native environment's interpreter.
        claims: Kubernetes finds the folders by claims.
        weights: reference of the image that podman mounts weights from.
    """
    first = f"Weights are mounted from an image that each node needs first: `podman pull {weights}`."
    manual = {"kubernetes": _kubernetes, "slurm": _slurm, "htcondor": _htcondor}[engine](batch, claims)
    made = environment(templates, word=shell_word, code=_code).get_template("batch/README.md.j2")
    return made.render(
        batch=batch,
        engine=engine,
        title=manual.title,
        files=[*manual.files, (NODE, "the node program: Python's standard library"), (STEPS, "what it starts")],
        before=manual.before,
        submit=manual.submit,
        watch=manual.watch,
        after=manual.after,
        codes=manual.codes,
        signal=manual.signal,
        notes=[*([first] if weights else []), *manual.notes],
        chosen=CHOSEN[way],
        command=LAUNCHER,
        folder=folder,
        mode=mode if mode != "native" else "docker-cpu",
        python=python,
    )


BACK = (
    "`batch status`, `collect` and `retry` read the batch's folder on this machine. Where it isn't the claim's, copy `results/` "
    "back first, and `batch.yaml` and `items.jsonl` into the claim again after `batch retry`."
)


def _kubernetes(batch: RenderedBatch, claims: bool) -> EngineManual:
    name = kubernetes.job_name(batch)
    before = [
        "Every node sees the recordings and the batch's folder at the paths of this machine (`hostPath` in `job.yaml`).",
        "The user of `runAsUser` reads both (`beside/`, too, if there is one), and writes in `results/`.",
    ]
    if claims:
        before = [
            "The claims that `job.yaml` names have to be there. The one of results holds the batch's folder: copy",
            "`batch.yaml`, `items.jsonl`, `results/` (empty) and, if there is one, `beside/` into it. The user of `runAsUser`",
            "reads all of it, and writes in `results/`. Recordings keep their times when they are copied (`rsync -t`), or the",
            "batch is planned with `--identity sha256`.",
        ]
    return EngineManual(
        title="Kubernetes",
        files=[
            ("job.yaml", "an Indexed Job: an index a shard, init containers begin and each stage, then publish"),
            ("network-policy.yaml", "no traffic into these pods, and none out of them"),
            ("kustomization.yaml", f"both, and a ConfigMap of {NODE} and {STEPS}"),
        ],
        before=before,
        submit=["kubectl apply -k ."],
        watch=[f"kubectl get job {name}", f"kubectl logs job/{name} --all-containers --prefix"],
        after=f" (`kubectl delete -k .` removes it; by itself it goes {kubernetes.KEPT // 86400} days after its end)",
        codes={
            8: "its index counts as failed, and is not tried again",
            2: "its index fails, and is not tried again",
            5: "its index fails, and is not tried again",
            3: f"tried again, {kubernetes.RETRIES} times",
            1: f"tried again, {kubernetes.RETRIES} times; after a drain or a preemption without counting",
        },
        signal="A pod that is ended publishes nothing: its stages are containers one after the other, and the last one "
        "publishes. Its shard begins anew; `batch plan --shard-minutes` decides how much that is.",
        notes=[
            "Kubernetes 1.31 or later: retries for each index, and failure policies by index.",
            "A Job with an index of code 8 ends as failed, though all that could be done is done: `batch status` tells.",
            *([BACK] if claims else []),
            "`maxFailedIndexes` (not set) ends a batch early that has too many failed shards.",
        ],
    )


def _slurm(batch: RenderedBatch, claims: bool) -> EngineManual:
    again = f"queued again, {slurm.RETRIES} times at most"
    return EngineManual(
        title="Slurm",
        files=[(slurm.FILE, "a job array, a task a shard"), (f"{slurm.LOGS}/", "what tasks print")],
        before=["Nodes see this folder, the batch's folder and the recordings at the paths of this machine."],
        submit=slurm.submissions(batch),
        watch=["squeue --me --array", "tail -F logs/*.log"],
        codes={
            8: "FAILED with 8:0, and left so",
            2: "FAILED, and left so",
            5: "FAILED, and left so",
            3: again,
            1: again,
        },
        signal="30 s before `--time` is over a task gets SIGTERM: recordings that are done are published, and it is queued again "
        "for the rest. A node that fails has its tasks queued again by Slurm (`--requeue`).",
        notes=[
            "An array has at most `MaxArraySize` indexes (`scontrol show config`): more shards are several arrays, as above.",
            "Containers have no cgroup of their own: Slurm's holds them too, and its `--mem` ends them.",
        ],
    )


def _htcondor(batch: RenderedBatch, claims: bool) -> EngineManual:
    return EngineManual(
        title="HTCondor",
        files=[
            ("batch.sub", "a submit file: a job a shard"),
            ("shards.txt", "the shards: number, name of its files, disk in KiB"),
            ("shards/", "the recordings of each shard, as a table"),
            ("input/", "links to the recordings of each shard: HTCondor sends the files"),
            ("arrived", "a link: packed results come into the batch's folder"),
            ("logs/", "what jobs print, and HTCondor's own log"),
        ],
        submit=["condor_submit batch.sub"],
        watch=["condor_q -nobatch", "condor_q -hold"],
        codes={
            8: "leaves the queue",
            2: "held, with the reason",
            5: "held, with the reason",
            3: f"held for a minute, then tried again, {htcondor.RETRIES} times at most",
            1: f"tried again, {htcondor.RETRIES} times at most",
        },
        signal="A job that is evicted begins its shard anew elsewhere; `batch plan --shard-minutes` decides how much that is.",
        notes=[
            "No shared disk is needed: recordings are sent to a node, and packed results back; `batch collect` unpacks them.",
            "The container universe takes one image for a job, and here each stage has its own. So the universe is vanilla: "
            "stages are processes of a native environment, or containers that rootless podman starts on the node (`steps.json`).",
            "Jobs of another UID domain run as nobody there: podman needs a user of its own (`condor_config_val UID_DOMAIN`).",
        ],
    )


def _code(text: str) -> str:
    """Text between backquotes."""
    return text.replace("`", "'").replace("\n", " ")
