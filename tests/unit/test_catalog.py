"""The catalogue and its lock: what may be fetched, and exactly which bytes it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from builder.core.config.selection import choose
from builder.core.terms import Purpose, Variant
from builder.core.weights import catalog, lock
from builder.core.weights.model import FilePin, Model, Pin, WheelSource, model_digest, snapshot_path
from builder.edges.machine import project
from builder.errors import ConfigError, UsageError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = project.load(ROOT, env={})
ZERO = "0" * 64
COMMIT = "a" * 40


def model(text: str) -> Model:
    return catalog.parse_models(f"models:\n  m: {{purpose: asr, title: t, licence: MIT, {text}}}\n")["m"]


def read_lock(text: str, entry: str = "hub: o/n") -> dict[str, Pin]:
    return lock.parse_lock(f"models:\n  m:\n    {text}\n", known={"m": model(entry)})


def pinned(path: str = "f", sha: str = ZERO) -> str:
    return f"[{{path: {path}, size: 1, sha256: '{sha}'}}]"


def test_the_lock_is_written_as_it_would_be_written_again() -> None:
    """`models lock` changes only what it pins anew: no noise in a diff."""
    assert (ROOT / "models.lock").read_text() == lock.dump_lock(CONFIG.pins)


def test_every_pin_has_two_records() -> None:
    """One record may be a mistake; two that agree are not. Of what is made here, its source has them."""
    made = {model.id for model in CONFIG.models.values() if model.int8_of}
    assert [id_ for id_, pin in CONFIG.pins.items() if len(pin.records) < 2 and id_ not in made] == []


def test_whisper_folders_hold_what_faster_whisper_needs() -> None:
    """Without tokenizer.json it would ask the hub; large-v3 and turbo need their 128 mel bins."""
    for model in CONFIG.models.values():
        if model.purpose is Purpose.ASR and not model.engine and (model.int8_of is None or model.id in CONFIG.pins):
            names = {f.path for f in CONFIG.pins[model.id].files}
            assert {"config.json", "model.bin", "tokenizer.json"} <= names
            assert names & {"vocabulary.txt", "vocabulary.json"}
            assert ("preprocessor_config.json" in names) == ((model.int8_of or model.id) in ("large-v3", "turbo"))


def test_models_of_another_engine_hold_what_it_loads() -> None:
    """All graphs and the vocabulary, and config.json, which says what the model is; of one kind, and no more."""
    from tests.conftest import stage_module

    kinds = {frozenset(files): kind for kind, files in stage_module("asr", "onnxasr").KINDS.items()}
    others = [model for model in CONFIG.models.values() if model.engine == "onnx-asr"]
    assert {model.id: kinds.get(frozenset(model.include) - {"config.json"}) for model in others} == {
        "parakeet-tdt-0.6b-v2": "nemo-conformer-rnnt",  # config.json says that it is TDT, of the same files
        "parakeet-tdt-0.6b-v3": "nemo-conformer-rnnt",
        "canary-180m-flash": "nemo-conformer-aed",
        "canary-1b-v2": "nemo-conformer-aed",
        "gigaam-v3-rnnt": "gigaam-v3-e2e-rnnt",
    }
    for model in others:
        assert "config.json" in model.include
        assert {f.path for f in CONFIG.pins[model.id].files} == set(model.include)
    assert [model.id for model in others if model.translates] == ["canary-180m-flash", "canary-1b-v2"]


def test_an_aligner_has_what_it_is_known_by() -> None:
    """The stage knows what aligns by a model from its files."""
    from tests.conftest import stage_module

    align = stage_module("align")
    assert align.MODULES == {"mdef": "slim", "**/*.onnx": "ctc"}
    assert "mdef" in {f.path for f in CONFIG.pins["cmusphinx-fr"].files}
    for model in CONFIG.models.values():
        if model.engine == "ctc":
            files = [model.convert.result] if model.convert else model.include
            assert sum(path.endswith(".onnx") for path in files) == 1, model.id
            assert model.convert is not None or "vocab.json" in files, model.id


def test_labels_of_converted_aligners() -> None:
    """Each letter has one row, and one row is the blank; the rows that fairseq adds come before the letters."""
    for model in CONFIG.models.values():
        if model.convert is not None and model.convert.how == "wav2vec2-onnx":
            labels = model.convert.labels.split()
            assert labels[:5] == ["<blank>", "<pad>", "</s>", "<unk>", "|"], model.id
            assert len(set(labels)) == len(labels), model.id
            assert all(len(label) == 1 for label in labels[5:] if label != "<1>"), model.id
            full = CONFIG.models[model.id.removesuffix("-onnx")]
            assert (full.languages, full.licence, full.sources) == (model.languages, model.licence, model.sources)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("engine: onnx_asr, languages: [en], variants: [slim]", 'no engine "onnx_asr"'),
        ("engine: onnx-asr, languages: [en]", "onnx-asr is an engine of models for asr"),
        ("engine: onnx-asr, variants: [slim]", "onnx-asr is an engine of models for asr"),
        ("engine: ctc, languages: [en], variants: [slim]", "ctc is an engine of models for alignment"),
    ],
)
def test_an_engine_that_cannot_be(entry: str, what: str) -> None:
    """Unknown, of a variant without it, or of languages that nobody could find out."""
    with pytest.raises(ConfigError, match=what):
        model(f"{entry}, hub: o/n")
    assert model("engine: onnx-asr, languages: [en, de], variants: [slim], hub: o/n").engine == "onnx-asr"


def test_wheels_hold_every_pinned_file() -> None:
    """A model that has wheels can come from them alone."""
    for model in CONFIG.models.values():
        for source in model.sources:
            if isinstance(source, WheelSource):
                pin, made = CONFIG.pins[model.id], model.converted_path
                kept = {f.path for f in pin.files if f.path != made}
                assert set(source.files) == {f.path for f in pin.source_files} | kept


def test_models_land_where_libraries_look() -> None:
    """The hub's cache layout under the official repository and revision; torchaudio's flat folder."""
    base = snapshot_path(CONFIG.models["base"], CONFIG.pins["base"])
    revision = CONFIG.pins["base"].revision
    assert base == f"hub/models--Systran--faster-whisper-base/snapshots/{revision}"
    assert re.fullmatch(r"[0-9a-f]{40}", revision)
    assert snapshot_path(CONFIG.models["wav2vec2-en"], CONFIG.pins["wav2vec2-en"]) == "torch/hub/checkpoints"


def test_licences_that_forbid_commerce_and_gates_are_marked() -> None:
    """Whoever builds an image to sell must see it; a licence that nobody could read counts as one that forbids."""
    forbidding = {m.id for m in CONFIG.models.values() if not m.commercial}
    assert {f"wav2vec2-{c}" for c in ("fr", "de", "es", "it", "vi")} | {"nllb-200-600m"} <= forbidding
    for found in CONFIG.models.values():
        assert found.commercial == (found.licence != "see its page" and "-NC-" not in found.licence), found.id
        assert found.page or found.licence != "see its page", found.id
    gated = [m for m in CONFIG.models.values() if m.gated]
    assert {"pyannote-community-1", "pyannote-3.1", "pyannote-segmentation-3.0"} <= {m.id for m in gated}
    assert all(m.page and m.variants == (Variant.FULL,) for m in gated)


def test_there_is_an_aligner_for_every_language_that_whisperx_knows() -> None:
    """The keys of DEFAULT_ALIGN_MODELS_TORCH and _HF in whisperx 3.8.6; one repository is one model."""
    known = (
        "ar ca cs da de el en es eu fa fi fr gl he hi hr hu id it ja ka ko lv ml nl nn no pl pt ro ru sk sl sv te tl tr "
        "uk ur vi zh"
    )
    aligners = [m for m in CONFIG.models.values() if m.purpose is Purpose.ALIGNMENT and m.variants == (Variant.FULL,)]
    assert sorted(code for m in aligners for code in m.languages) == known.split()
    repos = [m.repo for m in CONFIG.models.values() if m.repo and m.int8_of is None]
    assert len(repos) == len(set(repos))


@pytest.mark.parametrize("name", ["nllb-200-600m", "punkt-tab", "pyannote-3.1"])
def test_what_no_stage_loads_is_not_built_in(name: str) -> None:
    """It can be supplied and served; an image would only carry it."""
    with pytest.raises(UsageError, match="no stage of this plan would load"):
        choose(CONFIG, preset="starter", variant=Variant.FULL, stages=list(CONFIG.stages), models=[name])


@pytest.mark.parametrize("alternative", ["none", "m", "other-gated"])
def test_an_alternative_is_an_ungated_model(alternative: str) -> None:
    """What is offered in place of a gated model must be one that can be had."""
    one = "{{purpose: asr, title: t, licence: MIT, hub: o/{0}, gated: true, alternative: {1}}}"
    text = f"models:\n  m: {one.format('a', alternative)}\n  other-gated: {one.format('b', 'm')}\n"
    with pytest.raises(ConfigError, match="not an alternative"):
        catalog.parse_models(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("hub: /etc/passwd", "repository"),
        ("hub: a/../b", "repository"),
        ("url: http://host/file, target: t", "address"),
        ("url: file:///etc/passwd, target: t", "address"),
        ("url: https://host/file", "target"),
        ("target: t", "source"),
        ("hub: o/n, target: ../up", "unsafe path"),
        ("hub: o/n, variants: []", "no variant"),
        ("url: https://h/f, target: t, include: [a]", "include"),
        ("hub: o/n, variants: [slimm]", "slimm"),
        ("hub: o/n, languages: [english]", "language"),
        ("hub: o/n, languages: [no]", "string"),
        ("hub: o/n, convert: {how: h, source: a, result: b}", "target"),
        ("target: t, wheel_tag: linux, wheels: {w==1: '" + ZERO + "'}, files: {a: ['w==1:b']}", "tag of a wheel"),
        (
            "target: t, wheel_tag: cp311-cp311-any --index-url=x, wheels: {w==1: '"
            + ZERO
            + "'}, files: {a: ['w==1:b']}",
            "tag",
        ),
        ("hub: o/n, companion: m", "companion"),
        ("hub: o/n, companion: other", "companion"),
        ("hub: o/n, variants: [slim], engine: mlx, instead_of: other", "take the place"),
        ("hub: o/n, variants: [slim], engine: mlx, instead_of: m", "take the place"),
        ("target: t, wheels: {w==1: '" + ZERO + "'}", "without files"),
        ("target: t, wheels: {w==1: '" + ZERO + "'}, files: {a: []}", "no members"),
        ("target: t, wheels: {w==1: '" + ZERO + "'}, files: {a: ['w==1:../b']}", "unsafe path"),
        ("target: t, wheels: {w==1: '" + ZERO + "', v==1: '" + ZERO + "'}, files: {a: ['w==1:b']}", "no file comes"),
        ("target: t, wheels: {'-r evil==1': '" + ZERO + "'}, files: {a: ['w==1:b']}", "pinned wheel"),
    ],
)
def test_entries_that_make_no_sense_are_refused(text: str, word: str) -> None:
    """Each with its line, before anything is fetched."""
    with pytest.raises(ConfigError) as caught:
        model(text)
    assert word in caught.value.what
    assert caught.value.where == "models.yaml:2"


def test_a_word_that_yaml_reads_otherwise_says_so() -> None:
    """Norwegian is `no`, and YAML's no is false."""
    with pytest.raises(ConfigError) as caught:
        model("hub: o/n, languages: [no]")
    assert "quotes" in str(caught.value.hint)
    assert model("hub: o/n, languages: ['no']").languages == ("no",)


@pytest.mark.parametrize(
    ("text", "entry", "word"),
    [
        (f"{{revision: main, files: {pinned()}}}", "hub: o/n", "not a commit"),
        (f"{{revision: '{COMMIT}', files: []}}", "hub: o/n", "without files"),
        (f"{{revision: '{COMMIT}', files: {pinned(sha='0' * 63)}}}", "hub: o/n", "sha256"),
        (f"{{revision: '{COMMIT}', files: {pinned('../f')}}}", "hub: o/n", "unsafe path"),
        (f"{{revision: '{COMMIT}', files: {pinned()}, layers: {{a: md5}}}}", "hub: o/n", "digest"),
        (f"{{revision: '{COMMIT}', files: {pinned()[:-1]}, {pinned()[1:]}}}", "hub: o/n", "listed twice"),
        (f"{{revision: 'a b', files: {pinned()}}}", "url: https://h/f, target: t", "not a revision"),
        (
            f"{{revision: v1, files: {pinned('b')}, source_files: {pinned('../a')}}}",
            "url: https://h/f, target: t, convert: {how: h, source: a, result: b}",
            "unsafe path",
        ),
        (f"{{revision: '{COMMIT}', files: {pinned()}, source_files: {pinned()}}}", "hub: o/n", "not converted"),
        (
            f"{{revision: v1, files: {pinned()}}}",
            "url: https://h/f, target: t, convert: {how: h, source: a, result: b}",
            "exactly one pin",
        ),
    ],
)
def test_pins_that_could_not_be_held_against_bytes_are_refused(text: str, entry: str, word: str) -> None:
    """A branch is no pin; nor is a digest cut short."""
    with pytest.raises(ConfigError) as caught:
        read_lock(text, entry)
    assert word in caught.value.what


def test_a_pin_for_an_unknown_model_names_the_close_one() -> None:
    """A renamed model does not keep a pin that nobody checks."""
    with pytest.raises(ConfigError) as caught:
        lock.parse_lock(f"models: {{mm: {{revision: v, files: {pinned()}}}}}", known={"m": model("hub: o/n")})
    assert caught.value.hint == 'did you mean "m"?'


def test_models_of_one_folder_do_not_overwrite_each_other() -> None:
    """torchaudio's checkpoints share a folder."""
    models = {name: model("url: https://h/f, target: shared") for name in ("a", "b")}
    entry = "  {}: {{revision: v, files: {}}}\n"
    same = entry.format("a", pinned()) + entry.format("b", pinned())
    assert set(lock.parse_lock("models:\n" + same, known=models)) == {"a", "b"}
    other = entry.format("a", pinned()) + entry.format("b", pinned(sha="1" * 64))
    with pytest.raises(ConfigError, match="different bytes"):
        lock.parse_lock("models:\n" + other, known=models)


def test_a_models_digest_is_over_its_sorted_lines() -> None:
    """As docs/job-format.md says, so that any tool can compute it."""
    files = (FilePin(path="b", size=1, sha256="1" * 64), FilePin(path="a", size=1, sha256="2" * 64))
    lines = f"{'2' * 64}  a\n{'1' * 64}  b\n"
    expected = "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    assert model_digest(Pin(revision="r", files=files)) == expected


def test_a_lock_reads_back_as_it_was_written() -> None:
    """Every field, sorted by path, also texts that YAML would take for something else."""
    files = tuple(FilePin(path=p, size=k, sha256=str(k) * 64) for k, p in enumerate(("a", "b/c", "no")))
    pin = Pin(
        revision=COMMIT,
        files=files,
        source_files=files[:1],
        records=("o/n on https://hub", "1.0", "yes: it is"),
        licence="mit",
        layers={"rest": f"sha256:{ZERO}"},
    )
    assert lock.parse_lock(lock.dump_lock({"m": pin})) == {"m": pin}
    assert lock.parse_lock(lock.dump_lock({})) == {}
    entries = "[{path: b, size: 1, sha256: '" + ZERO + "'}, {path: a, size: 2, sha256: '" + ZERO + "'}]"
    assert [f.path for f in read_lock(f"{{revision: '{COMMIT}', files: {entries}}}")["m"].files] == ["a", "b"]
