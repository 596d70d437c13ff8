"""One bundle for several sites: it holds what at least one of them lacks, each layer once, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.core.bundle import contents
from builder.core.bundle import plan as core
from builder.core.bundle.contents import Base
from builder.core.images.oci import digest
from builder.errors import UsageError
from builder.receiver import inventory as checking
from builder.receiver.inventory import LoaderError
from tests import bundles

STAGES = ("asr", "vad", "align")


def release(versions: tuple[int, ...]) -> bundles.Set:
    """Images of a common base; each stage's weights and code are of a version, 0 leaves the stage out."""
    made = bundles.Set()
    base = made.layer({"etc/base": b"base"})
    for stage, version in zip(STAGES, versions, strict=True):
        if version:
            weights = made.layer(
                {f"models/{stage}": bundles.noise(5000, version // 2)}, model=f"{stage}-{version // 2}"
            )
            made.image(stage, [base, weights, made.layer({f"opt/{stage}.py": bundles.noise(900, version)})])
    return made


def site(versions: tuple[int, ...], store: str | None, files: dict[str, bytes]) -> Base:
    """A receiver that has a release, and some of the files beside it."""
    plan = bundles.planned(release(versions), loader=b"", extras=described(files))
    inventory: dict[str, Any] = json.loads(bundles.finished(plan))
    return contents.base_of({**inventory, "engine": {**inventory["engine"], "store": store}})


def described(files: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    return {path: (len(data), digest(data)[7:]) for path, data in files.items()}


VERSIONS = st.tuples(*[st.integers(0, 3)] * 3).filter(any)
FILES = st.dictionaries(st.sampled_from(["licences/a", "licences/b", "job/c"]), st.sampled_from([b"1", b"2"]))
SITES = st.lists(
    st.builds(site, VERSIONS, st.sampled_from(["containerd", "overlay2", None]), FILES), min_size=1, max_size=5
)


def of(plan: core.BundlePlan) -> dict[str, int]:
    """Path -> bytes of what a bundle has beside manifests and configs."""
    return {e.path: e.size for e in plan.entries if e.path not in plan.small}


@settings(max_examples=60, deadline=None)
@given(new=VERSIONS, files=FILES, sites=SITES, content=st.sampled_from(["complete", "code"]))
def test_it_holds_the_union_of_what_each_site_would_get(
    new: tuple[int, ...], files: dict[str, bytes], sites: list[Base], content: str
) -> None:
    made = release(new)
    loose = [made.layer({"models/native": b"n"}, model="native")]
    more = {"loader": b"", "extras": described(files), "loose": loose, "content": content}
    own = [of(bundles.planned(made, bases=[base], **more)) for base in sites]
    fleet = bundles.planned(made, bases=sites, **more)
    assert of(fleet) == {path: size for each in own for path, size in each.items()}
    assert of(bundles.planned(made, bases=[*sites, *sites[::-1]], **more)) == of(fleet), "alike sites count once"
    checking.check_inventory(bundles.finished(fleet))
    different = {base.fingerprint for base in sites}
    assert fleet.inventory["base"] == (sites[0].fingerprint if len(different) == 1 else None)
    assert set(fleet.inventory.get("bases", different)) == different


def test_it_is_as_large_as_what_twenty_sites_in_five_states_lack() -> None:
    """At most 1.02 times the union, for layers of a usual size."""
    images, new = [], bundles.three(weights=3_000_000)
    for k in range(5):
        made = bundles.three(weights=3_000_000 if k else 3000, code=b"print(%d)\n" % (10 + k))
        images.append(
            contents.base_of(json.loads(bundles.finished(bundles.planned(made, loader=b"", part_size=1 << 30))))
        )
    lacks = {
        x.digest: x.size for base in images for image in new.images for x in contents.lacking(image, base.contents)
    }
    plan = bundles.planned(new, loader=b"", bases=[images[k % 5] for k in range(20)], part_size=1 << 30)
    assert len(plan.inventory["bases"]) == 5
    assert sum(lacks.values()) <= plan.size <= 1.02 * sum(lacks.values())


def test_a_file_that_lies_elsewhere_at_a_site_travels() -> None:
    """The same bytes under another path are no use to a receiver."""
    base = site((1, 0, 0), None, {"licences/a": b"1"})
    plan = bundles.planned(release((1, 0, 0)), loader=b"", bases=[base], extras=described({"job/c": b"1"}))
    assert "job/c" in of(plan)


def test_more_images_than_a_loader_reads_are_refused_before_anything_is_written() -> None:
    image = {"name": "r/a:x", "config": f"sha256:{'0' * 64}", "layers": [f"sha256:{'1' * 64}"]}
    bases = [
        Base(fingerprint=str(k), images=tuple({**image, "manifest": f"sha256:{k:032}{n:032}"} for n in range(50)))
        for k in range(5)
    ]
    with pytest.raises(UsageError, match="these 5 receivers have 250 images between them"):
        bundles.planned(release((1, 0, 0)), loader=b"", bases=bases)


def test_bases_are_checked() -> None:
    one = site((1, 0, 0), None, {})
    data = json.loads(bundles.finished(bundles.planned(release((2, 0, 0)), loader=b"", bases=[one])))
    two = [f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"]
    checking.check_inventory(contents.dump({**data, "base": None, "bases": two}))
    for change in ({"bases": two}, {"base": None, "bases": two[:1]}, {"base": None, "bases": ["x", *two]}):
        with pytest.raises(LoaderError, match="base"):
            checking.check_inventory(contents.dump({**data, **change}))
    with pytest.raises(LoaderError, match="base"):
        checking.check_inventory(contents.dump({**data, "base": None, "bases": [two[0], two[0]]}))
