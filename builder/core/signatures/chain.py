"""From a job's results to all that made them: recording, settings, code, image, weights. Pure.

The links are those of docs/job-format.md: job.yaml has the recording's sha256, the settings and the models' digests; each
stage's manifest.json has the digest of its code, of what it read, of what it made. Whoever can write into the folder can
write all of them anew: a link tells what belongs together, and only what is compared with this project (code, models.lock,
images) or signed stands for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from builder.core.jobs.job import Job, JobInput, JobStage
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.request import request_key
from builder.core.signatures.links import ChainLink, broken, compared, holds, not_shown

SHOWN = 3
"""Files that a link names."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """The image that a stage ran in."""

    id: str
    """``sha256:…``."""
    where: str
    """Where it is on this machine; empty: nowhere."""
    code: str = ""
    """Hex digest of the code that its label names."""
    models: frozenset[str] = frozenset()
    """Digests of the models that it carries."""


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """What this machine has of a job, looked up beforehand."""

    digests: Mapping[str, str | None]
    """Path in the job -> ``sha256:…`` of its bytes; None where there are none."""
    removed: Mapping[str, str]
    """Sound that was removed to free its room: path -> digest that it had."""
    code: Mapping[str, str]
    """Stage -> hex digest of its code in this project."""
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    """Stage -> its image; none for stages that ran without."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Model -> digest that models.lock pins."""
    stored: Mapping[str, bool] = field(default_factory=dict)
    """Model -> whether the store has its bytes as models.lock pins them."""


def chain(job: Job, said: Mapping[str, Manifest], facts: MachineFacts, *, result: str | None = None) -> list[ChainLink]:
    """The links of a job, from its recordings to its results.

    Args:
        said: stage -> its manifest.
        result: a path in the job's folder; only what it was made of counts then.
    """
    makers = {path: stage for stage, made in said.items() for path in made.outputs}
    wanted = set(said) if result is None else _behind(makers.get(result, ""), said, makers)
    links = [_recording(entry, facts) for entry in job.inputs]
    links.append(_request(job))
    for stage in job.stages:
        made = said.get(stage.name)
        if made is not None and stage.name in wanted:
            links += _of_stage(stage, made, said, makers, facts)
        elif made is None and result is None:
            links.append(not_shown("stage", stage.name, "it has no results"))
    paths = [result] if result is not None else sorted(path for made in said.values() for path in made.results)
    links += [_result(path, said, makers, facts) for path in paths]
    return links


def _behind(stage: str, said: Mapping[str, Manifest], makers: Mapping[str, str]) -> set[str]:
    """A stage and all those whose files it was made of."""
    found: set[str] = set()
    queue = [stage]
    while queue:
        name = queue.pop()
        if name in said and name not in found:
            found.add(name)
            queue += [makers[path] for path in said[name].inputs if path in makers]
    return found


def _recording(entry: JobInput, facts: MachineFacts) -> ChainLink:
    expected = (entry.clip.sha256 if entry.clip else None) or entry.sha256
    what = "the part that was cut from it" if entry.clip else "its sha256"
    return compared(
        "recording",
        entry.name,
        facts.digests.get(entry.path),
        f"sha256:{expected}",
        gone=f"{entry.path} is no longer there",
        other=f"{entry.path} has other bytes: {what} in job.yaml is {expected[:12]}",
    )


def _request(job: Job) -> ChainLink:
    """Whether job.yaml's key is that of its recordings, settings and models."""
    if request_key(job.inputs, job.stages, job.workflow) == job.key:
        return holds("request", "job.yaml", f"sha256:{job.key}")
    if any(entry.clip for entry in job.inputs):  # the key is of the times that were asked for, before the cut
        return not_shown("request", "job.yaml", "a clip's own times are not in job.yaml")
    return broken("request", "job.yaml", "its settings, models or recordings are not those that its key was made of")


def _of_stage(
    stage: JobStage,
    made: Manifest,
    said: Mapping[str, Manifest],
    makers: Mapping[str, str],
    facts: MachineFacts,
) -> Iterator[ChainLink]:
    others = sorted(
        name
        for name in {*made.settings, *stage.settings}
        if made.settings.get(name, ...) != stage.settings.get(name, ...)
    )
    if others:
        yield broken("settings", stage.name, f"it ran with others than job.yaml has: {', '.join(others[:SHOWN])}")
    else:
        yield holds("settings", stage.name, f"{len(stage.settings)}, as in job.yaml")
    image = facts.images.get(stage.name)
    yield _code(stage.name, made, image, facts)
    if image is not None:
        yield _image(stage.name, made, image)
    yield from _weights(stage, made, image, facts)
    yield _read(stage.name, made, said, makers, facts)
    yield _made(stage.name, made, facts)


def _code(stage: str, made: Manifest, image: ImageFacts | None, facts: MachineFacts) -> ChainLink:
    if facts.code.get(stage) == made.code:
        return holds("code", stage, f"sha256:{made.code}")
    if image is not None and image.where and image.code == made.code:
        return holds("code", stage, f"sha256:{made.code}, in its image; this project has another")
    here = facts.code.get(stage, "")[:12] or "none"
    return not_shown("code", stage, f"it was {made.code[:12]}, and this project's is {here}")


def _image(stage: str, made: Manifest, image: ImageFacts) -> ChainLink:
    if not image.where:
        return not_shown("image", stage, f"{image.id} is not on this machine")
    if image.code != made.code:  # compose.yaml is written anew before a run
        return not_shown("image", stage, f"{image.id} is of other code: the one that it ran in isn't known")
    return holds("image", stage, f"{image.id} ({image.where})")


def _weights(stage: JobStage, made: Manifest, image: ImageFacts | None, facts: MachineFacts) -> Iterator[ChainLink]:
    for purpose, use in stage.models.items():
        of = f"{use.id} ({stage.name})"
        if made.models.get(purpose) != use.digest:
            yield broken("weights", of, "the stage says that it loaded others than job.yaml has")
        elif facts.pins.get(use.id) != use.digest:
            yield not_shown("weights", of, f"models.lock pins other bytes than {use.digest[:19]}")
        elif facts.stored.get(use.id):
            yield holds("weights", of, f"{use.digest}, as models.lock pins them")
        elif image is not None and image.where and use.digest in image.models:
            yield holds("weights", of, f"{use.digest}, in its image")
        else:
            yield not_shown("weights", of, "models.lock pins them, and the store doesn't have them")
    if extra := sorted(set(made.models) - set(stage.models)):
        yield broken("weights", stage.name, f"it loaded what job.yaml doesn't name: {', '.join(extra[:SHOWN])}")


def _read(
    stage: str, made: Manifest, said: Mapping[str, Manifest], makers: Mapping[str, str], facts: MachineFacts
) -> ChainLink:
    """What a stage read: as the stage before made it, or as it lies in ``input``."""
    wrong, gone = [], []
    for path, digest in made.inputs.items():
        maker = makers.get(path)
        if maker is not None:
            if said[maker].outputs[path] != digest:
                wrong.append(f"{path} (stage {maker} has made another since)")
        elif facts.digests.get(path) is None:
            gone.append(path)
        elif facts.digests[path] != digest:
            wrong.append(f"{path} (changed since)")
    if wrong:
        return broken("inputs", stage, f"not what it read: {_listed(wrong)}")
    if gone:
        return not_shown("inputs", stage, f"no longer there: {_listed(gone)}")
    return holds("inputs", stage, _count(made.inputs))


def _made(stage: str, made: Manifest, facts: MachineFacts) -> ChainLink:
    """What a stage made for those after it; results are links of their own."""
    own = {path: digest for path, digest in made.outputs.items() if not path.startswith("output/")}
    there = {path: facts.digests.get(path) or facts.removed.get(path) for path in own}
    if wrong := [path for path, digest in own.items() if there[path] not in (None, digest)]:
        return broken("outputs", stage, f"changed since: {_listed(wrong)}")
    if gone := [path for path in own if there[path] is None]:
        return not_shown("outputs", stage, f"no longer there: {_listed(gone)}")
    return holds("outputs", stage, _count(own))


def _result(path: str, said: Mapping[str, Manifest], makers: Mapping[str, str], facts: MachineFacts) -> ChainLink:
    if path not in makers:
        return broken("result", path, "no stage says that it made it")
    expected = said[makers[path]].outputs[path]
    return compared(
        "result",
        path,
        facts.digests.get(path),
        expected,
        gone="it is no longer there",
        other=f"changed since stage {makers[path]} made it ({expected[:19]})",
    )


def _count(files: Mapping[str, str]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(sorted(paths)[:SHOWN]) + more


def replayed(first: Mapping[str, Manifest], again: Mapping[str, Manifest], order: list[str]) -> list[ChainLink]:
    """What a second run made, against the first: every result, and before them the first stage that made other bytes.

    Args:
        first: stage -> its manifest, of the job.
        again: the same of the second run.
        order: the job's stages.
    """
    links = []
    for stage in order:
        before, after = (dict(each[stage].outputs) if stage in each else {} for each in (first, again))
        own = sorted(path for path in {*before, *after} if not path.startswith("output/"))
        if differing := [path for path in own if before.get(path) != after.get(path)]:
            links.append(broken("replay", stage, f"the first stage that made other bytes: {_listed(differing)}"))
            break
    outputs = [{path: d for made in each.values() for path, d in made.outputs.items()} for each in (first, again)]
    for path in sorted(path for path in {*outputs[0], *outputs[1]} if path.startswith("output/")):
        links.append(
            compared(
                "replay",
                path,
                outputs[1].get(path),
                outputs[0].get(path, ""),
                gone="the second run made none",
                other="the second run made other bytes" if path in outputs[0] else "only the second run made it",
            )
        )
    return links
