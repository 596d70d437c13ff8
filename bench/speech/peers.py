"""faster-whisper and Whisper's normaliser, in an environment of their own, on the product's weights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import peer, whisper

from speech import kept

FASTER_WHISPER = ("faster-whisper==1.2.1", "whisper-normalizer==0.1.15")

TRANSCRIBE = """
import json, sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
asked = json.load(sys.stdin)
model = WhisperModel(asked["model"], device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True)
if asked["batch"]:
    model, more = BatchedInferencePipeline(model), {"batch_size": asked["batch"]}
else:
    more = {"vad_filter": True}
for path, language in asked["files"]:
    segments, _ = model.transcribe(path, language=language, beam_size=5, word_timestamps=asked["times"], **more)
    said = [{"start": s.start, "end": s.end, "text": s.text,
             "words": [{"start": w.start, "end": w.end, "word": w.word} for w in s.words or ()]} for s in segments]
    print(json.dumps({"segments": said}), flush=True)
"""

NORMALISE = """
import json, sys
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer
english, basic = EnglishTextNormalizer(), BasicTextNormalizer()
pairs = json.load(sys.stdin)
print(json.dumps([(english if language == "en" else basic)(text) for language, text in pairs]))
"""


def python() -> Path:
    """The interpreter that has faster-whisper and Whisper's normaliser."""
    return peer("faster-whisper", *FASTER_WHISPER) / "python"


def transcribed(
    what: str, model: str, files: Sequence[tuple[Path, str]], *, batch: int = 0, times: bool = False
) -> list[dict[str, Any]]:
    """What faster-whisper hears, one window after the other or in batches; kept from earlier runs."""
    names = [
        kept.key(TRANSCRIBE, FASTER_WHISPER, model, batch, times, language, kept.digest(p)) for p, language in files
    ]
    missing = [k for k, name in enumerate(names) if kept.get(name) is None]
    if missing:
        asked = {"model": str(whisper(model)), "batch": batch, "times": times}
        asked["files"] = [(str(files[k][0]), files[k][1]) for k in missing]
        words = [str(python()), "-c", TRANSCRIBE]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(asked))
            process.stdin.close()
            for done, (k, line) in enumerate(zip(missing, process.stdout, strict=False), 1):
                kept.put(names[k], json.loads(line))
                if done % 8 == 0 or done == len(missing):
                    kept.progress(f"{what}, faster-whisper{' batched' if batch else ''}", done, len(missing))
        if process.returncode:
            raise SystemExit(f"faster-whisper ended with {process.returncode}")
    return [kept.get(name) for name in names]


def text(said: dict[str, Any]) -> str:
    """All that was heard, as one line."""
    return " ".join("".join(s["text"] for s in said["segments"]).split())


def normalised(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Texts as Whisper's own evaluation compares them; Chinese and Japanese as characters apart.

    Args:
        pairs: language and text.
    """
    words = [str(python()), "-c", NORMALISE]
    done = subprocess.run(words, input=json.dumps(pairs), capture_output=True, text=True, check=True)
    plain: list[str] = json.loads(done.stdout)
    apart = ("zh", "ja", "th")
    return [
        " ".join("".join(text.split())) if language in apart else " ".join(text.split())
        for (language, _), text in zip(pairs, plain, strict=True)
    ]
