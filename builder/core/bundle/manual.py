"""README.txt of a bundle: its manual, for a person who has nothing but the bundle. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.core.bundle import contents
from builder.receiver.jobs.translating import TRANSLATE

_TEXT = """\
A whisperbake bundle: speech transcription for a machine without a network.

{facts}

LOAD IT
    python3 load.py --key FILE           load it into this machine's container engine (Docker Engine {oldest} or later),
                                         if the sender's public key signed it
    python3 load.py --fingerprint 'HEX'  the same with the digits that the sender reads out, in place of a key
    python3 load.py --check              read everything once, name what is damaged; needs no engine
    python3 load.py --rollback           back to the version before this one; once more: forward again
  Neither the key nor the digits may come with the bundle. Without both, load.py says what else it takes. Later bundles of
  this sender need no --key. It needs Python 3.9 or later, and sudo where you are not in the docker group. It can be stopped
  at any time and run again. Images of others keep their names. An older bundle than the one that is loaded needs
  --allow-older. The folder whisperbake has this machine's inventory.json, which the sender can make the next, smaller bundle
  for, and loaded.jsonl: which bundles went in when (load.py --log).
{native}
TRANSCRIBE
    python3 load.py --run call.mp4 talk.wav
    python3 load.py --run *.mp4 --language German --speakers 2
    python3 load.py --run film.mkv --workflow transcribe --no-diarization
{translate}  Each recording is a job: a folder below whisperbake/jobs, with the results in output. Containers have no network.
  In a job's folder, docker compose up runs it again.

EXIT CODES
  0 done; 2 usage, or a recording that can't be used; 3 this machine lacks something; 5 the bundle or a model is damaged,
  nobody vouches for it, or a name is somebody else's; 7 a stage or the acceptance run failed; 8 done without an optional
  stage; 130 interrupted.

WHEN SOMETHING IS WRONG
  damaged or missing: whisperbake.tar.003     have that part copied again from the sender
  this engine lacks N layers                  the bundle is a difference: send your inventory.json, or ask for a complete one
  no engine answers                           start it, or use sudo
  the engine's disk is full                   free some space, run it again: it resumes
  was not signed with, is another key         don't use it; ask the sender
  this engine has NAME from somebody else     give that image another name (docker tag), then docker image rm NAME

All options: python3 load.py --help. Once it is loaded, whisperbake/licences/models.md has the licences of the models, and
whisperbake/papers says what is in it: SBOM, provenance, advisories.
"""

_NATIVE = """
WITHOUT AN ENGINE
    python3 load.py --native      unpack what native runs need ({python}); the same happens where no engine answers
  It says then what to type for a run.
"""


_TRANSLATE = """\
    python3 load.py --run film.mkv --translate English      and the text in other languages
"""


def manual(inventory: Mapping[str, Any]) -> bytes:
    """README.txt for a bundle.

    Args:
        inventory: the bundle's, of which the hashes of the parts may be missing.
    """
    made = inventory.get("made") or {}
    sizes = contents.sizes(inventory)
    models = ", ".join(model["id"] for model in inventory["models"])
    facts = {
        "made by": inventory["made_by"],
        "commit": made.get("commit"),
        "made on": made.get("created"),
        "holds": f"{sizes.content}, {len(inventory['images'])} images, {sizes.whole / 1e6:.0f} MB",
        "models": models,
        "platform": inventory["engine"]["platform"],
    }
    native = any(entry["path"].startswith("native/") for entry in inventory["files"])
    python = f"Python {made['python']}, {inventory['engine']['platform']}" if made.get("python") else "see its wheels"
    text = _TEXT.format(
        facts="\n".join(f"  {name:9} {value}" for name, value in facts.items() if value),
        oldest=inventory["engine"]["oldest"],
        native=_NATIVE.format(python=python) if native else "",
        translate=_TRANSLATE if any(image["stage"] == TRANSLATE for image in inventory["images"]) else "",
    )
    return text.encode()
