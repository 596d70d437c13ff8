"""Images without weights, and an image of weights that containers mount: on an engine that does it, and on one that doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.edges.engine import connection, needs
from builder.errors import MissingError
from tests.engine.conftest import ONE_STORE, Engine, results
from tests.shared import EXAMPLE, SAME

MODE = ("--mode", "docker-cpu", "--weights", "mounted")


@ONE_STORE
def test_code_and_weights_apart(engine: Engine, built: Any, native: Path) -> None:
    """The code is not built anew and the engine gets no weights. A job mounts them and gives native's bytes; an engine
    that can't mount an image says so, and what would do."""
    env = {"BAKE_REGISTRY": f"{engine.prefix}-apart"}
    try:
        done = engine.bake("build", *MODE, "--json", env=env)
        assert done.code == 0, done.err
        asr = engine.client.images.get(f"{engine.prefix}-apart/asr:slim-cpu")
        baked = engine.client.images.get(f"{engine.prefix}/asr:slim-cpu")
        assert len(asr.attrs["RootFS"]["Layers"]) < len(baked.attrs["RootFS"]["Layers"])
        assert set(asr.attrs["RootFS"]["Layers"]) < set(baked.attrs["RootFS"]["Layers"]), "its code was built anew"
        assert "io.whisperbake.weights" not in asr.labels
        try:
            needs.image_mounts(connection.info(engine.host), engine.host)
        except MissingError:
            refused = engine.bake("run", EXAMPLE, *MODE, *SAME, env=env)
            assert refused.code == 3
            assert "can't mount an image into a container" in refused.said
            assert "--weights baked" in refused.said
            return
        ran = engine.bake("run", EXAMPLE, *MODE, *SAME, "--json", env=env)
        assert ran.code == 0, ran.err
        place = engine.home / "jobs" / ran.data["job"]
        assert results(place) == results(native)
        assert "type: image" in (place / "compose.yaml").read_text()
    finally:
        for image in engine.client.images.list():
            for tag in image.tags:
                if tag.startswith(f"{engine.prefix}-apart/"):
                    engine.client.images.remove(tag, force=True)
