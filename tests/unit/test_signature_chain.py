"""The links from a result to what made it: which one is broken, and which can't be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from builder.core.jobs.job import Clip, Job, JobInput, JobStage, ModelUse
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.request import request_key
from builder.core.signatures import chain
from builder.core.signatures.chain import ImageFacts, MachineFacts
from builder.core.signatures.links import ChainLink, Verdict


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


SOUND, WORDS, SRT, TXT = "work/demux/01.wav", "work/asr/01.json", "output/a.srt", "output/a.txt"
USE = ModelUse(id="base", path="hub/base", digest=digest("b"), revision="1")
STAGES = (
    JobStage(name="demux", needs=(), settings={"track": None}),
    JobStage(name="asr", needs=("demux",), settings={"beam": 5}, models={"asr": USE}),
    JobStage(name="subtitles", needs=("asr",), settings={}),
    JobStage(name="names", needs=("asr",), settings={}, optional=True),
)
ENTRY = JobInput(id="01", name="a.wav", path="input/01.wav", sha256="1" * 64, size=9, output="a")
JOB = Job(
    id="20260101-000000-a-0000",
    created="2026-01-01T00:00:00Z",
    workflow="subtitle",
    variant="slim",
    preset="starter",
    key=request_key((ENTRY,), STAGES, "subtitle"),
    inputs=(ENTRY,),
    stages=STAGES,
    mode="docker-cpu",
)


def made(name: str, inputs: dict[str, str], outputs: dict[str, str], **more: object) -> Manifest:
    stage = JOB.stage(name)
    models = {purpose: use.digest for purpose, use in stage.models.items()}
    base = Manifest(code=f"code of {name}", settings=stage.settings, models=models, inputs=inputs, outputs=outputs)
    return replace(base, **more)  # type: ignore[arg-type]


SAID = {
    "demux": made("demux", {"input/01.wav": digest("1")}, {SOUND: digest("2")}),
    "asr": made("asr", {SOUND: digest("2")}, {WORDS: digest("3")}),
    "subtitles": made("subtitles", {WORDS: digest("3")}, {SRT: digest("4"), TXT: digest("5")}),
}
FACTS = MachineFacts(
    digests={"input/01.wav": digest("1"), SOUND: digest("2"), WORDS: digest("3"), SRT: digest("4"), TXT: digest("5")},
    removed={},
    code={stage.name: f"code of {stage.name}" for stage in STAGES},
    images={"asr": ImageFacts(id=digest("i"), where="engine", code="code of asr")},
    pins={"base": digest("b")},
    stored={"base": True},
)


def found(
    job: Job = JOB, said: dict[str, Manifest] = SAID, facts: MachineFacts = FACTS, result: str | None = None
) -> list[ChainLink]:
    return chain.chain(job, said, facts, result=result)


def other_than_holding(links: list[ChainLink]) -> list[tuple[str, str, Verdict]]:
    return [(link.kind, link.of, link.verdict) for link in links if link.verdict is not Verdict.HOLDS]


UNRUN = ("stage", "names", Verdict.NOT_SHOWN)


def test_a_whole_chain_holds() -> None:
    """From the recording to each result; a stage that has not run is said."""
    links = found()
    assert other_than_holding(links) == [UNRUN]
    kinds = {(link.kind, link.of) for link in links}
    assert {("recording", "a.wav"), ("request", "job.yaml"), ("weights", "base (asr)"), ("image", "asr")} <= kinds
    assert {("result", SRT), ("result", TXT)} <= kinds
    for stage in SAID:
        assert {(kind, stage) for kind in ("settings", "code", "inputs", "outputs")} <= kinds


def test_of_one_result_only_what_made_it_counts() -> None:
    said = {**SAID, "names": made("names", {WORDS: digest("3")}, {"output/a.names.tsv": digest("6")})}
    links = found(said=said, result=SRT)
    assert other_than_holding(links) == []
    assert {link.of for link in links if link.kind == "code"} == {"demux", "asr", "subtitles"}
    assert [link.of for link in links if link.kind == "result"] == [SRT]
    assert other_than_holding(found(result="output/made-up.srt")) == [("result", "output/made-up.srt", Verdict.BROKEN)]


def on_disk(path: str, value: str | None) -> Callable[[], list[ChainLink]]:
    return lambda: found(facts=replace(FACTS, digests={**FACTS.digests, path: value}))


def by(stage: str, **changes: object) -> Callable[[], list[ChainLink]]:
    return lambda: found(said={**SAID, stage: replace(SAID[stage], **changes)})  # type: ignore[arg-type]


def here(**changes: object) -> Callable[[], list[ChainLink]]:
    return lambda: found(facts=replace(FACTS, **changes))  # type: ignore[arg-type]


B, N = Verdict.BROKEN, Verdict.NOT_SHOWN


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (on_disk("input/01.wav", digest("9")), [("recording", "a.wav", B), ("inputs", "demux", B)]),
        (on_disk("input/01.wav", None), [("recording", "a.wav", N), ("inputs", "demux", N)]),
        (on_disk(SOUND, digest("9")), [("outputs", "demux", B)]),
        (on_disk(SOUND, None), [("outputs", "demux", N)]),
        (on_disk(SRT, digest("9")), [("result", SRT, B)]),
        (on_disk(SRT, None), [("result", SRT, N)]),
        (by("asr", settings={"beam": 1}), [("settings", "asr", B)]),
        (by("asr", settings={"beam": 5, "more": None}), [("settings", "asr", B)]),
        (by("asr", code="code of yesterday"), [("code", "asr", N), ("image", "asr", N)]),
        (by("asr", models={"asr": digest("c")}), [("weights", "base (asr)", B)]),
        (by("asr", models={"asr": digest("b"), "vad": digest("c")}), [("weights", "asr", B)]),
        (by("asr", inputs={SOUND: digest("9")}), [("inputs", "asr", B)]),
        (here(code={**FACTS.code, "vad": ""}), []),
        (here(code={**FACTS.code, "asr": "code of tomorrow"}), []),
        (here(code={**FACTS.code, "demux": "code of tomorrow"}), [("code", "demux", N)]),
        (here(images={"asr": ImageFacts(id=digest("i"), where="")}), [("image", "asr", N)]),
        (here(pins={"base": digest("c")}), [("weights", "base (asr)", N)]),
        (here(stored={"base": False}), [("weights", "base (asr)", N)]),
    ],
)
def test_the_link_that_differs_is_named(
    look: Callable[[], list[ChainLink]], expected: list[tuple[str, str, Verdict]]
) -> None:
    rest = [row for row in other_than_holding(look()) if row != UNRUN]
    assert rest == expected


def test_sound_that_was_removed_is_no_difference() -> None:
    facts = replace(FACTS, digests={**FACTS.digests, SOUND: None}, removed={SOUND: digest("2")})
    assert other_than_holding(found(facts=facts)) == [UNRUN]


def test_weights_in_the_image_need_no_store() -> None:
    image = ImageFacts(id=digest("i"), where="engine", code="code of asr", models=frozenset({digest("b")}))
    facts = replace(FACTS, stored={}, images={"asr": image})
    assert other_than_holding(found(facts=facts)) == [UNRUN]


def test_a_changed_job_file_has_another_key() -> None:
    stages = (replace(STAGES[0], settings={"track": 2}), *STAGES[1:])
    links = other_than_holding(found(job=replace(JOB, stages=stages)))
    assert links == [("request", "job.yaml", B), ("settings", "demux", B), UNRUN]
    renamed = replace(JOB, inputs=(replace(ENTRY, sha256="9" * 64),))
    assert ("request", "job.yaml", B) in other_than_holding(found(job=renamed))


def test_of_a_clip_the_cut_piece_is_compared() -> None:
    entry = replace(ENTRY, sha256="8" * 64, clip=Clip(start=1.0, end=2.0, sha256="1" * 64))
    job = replace(JOB, inputs=(entry,), key=request_key((entry,), STAGES, "subtitle"))
    assert other_than_holding(found(job=job)) == [UNRUN]
    assert ("request", "job.yaml", N) in other_than_holding(found(job=replace(job, key="0" * 64)))


def test_a_second_run_is_compared_by_result_and_by_the_first_stage_that_differs() -> None:
    order = [stage.name for stage in STAGES]
    assert other_than_holding(chain.replayed(SAID, SAID, order)) == []
    again = {
        **SAID,
        "asr": replace(SAID["asr"], outputs={WORDS: digest("9")}),
        "subtitles": replace(SAID["subtitles"], outputs={SRT: digest("9"), "output/new.vtt": digest("7")}),
    }
    assert other_than_holding(chain.replayed(SAID, again, order)) == [
        ("replay", "asr", B),
        ("replay", SRT, B),
        ("replay", TXT, N),
        ("replay", "output/new.vtt", B),
    ]
