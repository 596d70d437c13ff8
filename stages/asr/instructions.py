"""What the model is told beside the sound: its task, and the text that every window seems to follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract import InputFault, StageJob


def task(job: StageJob) -> str:
    """``transcribe``, or ``translate``: the text is English, whatever is spoken."""
    return str(job.settings.get("task", "transcribe"))


PUNCTUATED = {"zh": "以下是普通话的句子。"}
"""Language -> a sentence as the text is wanted. Chinese comes in simplified characters and with punctuation then (character
errors 43 → 25 %, real-speech measurements); in Japanese such a sentence leaked into the text."""


def before(job: StageJob, language: str | None = None, terms: str = "") -> str | None:
    """Hotwords, then terms, then the prompt; None without any. A prompt of the user's comes in the place of
    :data:`PUNCTUATED`.

    They go where faster-whisper has its hotwords, after ``<|startofprev|>``, and are cut at half of the model's context,
    223 tokens. Its ``initial_prompt`` would be heard with the first window only: windows know nothing of each other.

    Args:
        terms: of the glossary, as :func:`listed` makes them.
    """
    words = [
        str(job.settings.get("hotwords") or "").strip(),
        terms,
        str(job.settings.get("initial_prompt") or "").strip(),
    ]
    if not any((words[0], words[2])) and task(job) == "transcribe" and (own := PUNCTUATED.get(language or "")):
        words.append(own)
    return " ".join(word for word in words if word) or None


def listed(job: StageJob, model: Any, terms: Sequence[str], language: str | None) -> tuple[str, int]:
    """Terms as a text that the model's prompt has room for, beside what else is in it, and how many of them are in it."""

    def count(text: str) -> int:
        return len(model.hf_tokenizer.encode(text, add_special_tokens=False).ids)

    left = model.max_length // 2 - 1 - count(before(job, language) or "")
    for number, term in enumerate(terms):
        left -= count(f" {term},")
        if left < 0:
            return ", ".join(terms[:number]), number
    return ", ".join(terms), len(terms)


def text_language(job: StageJob, spoken: str | None) -> str | None:
    """The language of the text, where that of the sound is ``spoken``."""
    return "en" if task(job) == "translate" else spoken


def look(job: StageJob, model: Any) -> None:
    """Say what a loaded model makes of its instructions.

    Raises:
        InputFault: it can't translate.
    """
    name = job.uses["asr"]["id"]
    if task(job) == "translate":
        if not model.model.is_multilingual:
            raise InputFault(f"model {name} knows English only: it can't translate")
        if "turbo" in name:  # OpenAI left translations out of its fine-tuning
            job.note(job.inputs[0], f"model {name} was not trained to translate: its text may stay in the language")
    if text := before(job):
        room, count = model.max_length // 2 - 1, len(model.hf_tokenizer.encode(text, add_special_tokens=False).ids)
        if count > room:
            job.note(job.inputs[0], f"hotwords and prompt have {count} tokens: the model reads the first {room}")
