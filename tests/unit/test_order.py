"""What the order of layers costs, in figures computed by hand."""

from __future__ import annotations

import pytest

from builder.core.images import layer_order
from builder.core.images.layer_order import Block, Stack

BASE = Block(name="base", kind="base", size=100)
LIBRARY = Block(name="library", kind="requirement", size=10)
MODEL = Block(name="model", kind="model", size=4)
CODE = Block(name="code", kind="code", size=1)


def test_a_block_is_unpacked_once_and_again_for_every_change_below_it() -> None:
    """Per year: a base changes twice, a library four times, a model once, code twenty-six times."""
    order = {"a": (BASE, LIBRARY, MODEL, CODE)}
    assert layer_order.cost(order) == 100 * (1 + 2) + 10 * (1 + 6) + 4 * (1 + 7) + 1 * (1 + 33)


def test_a_chain_that_two_images_share_is_paid_once() -> None:
    order = {"a": (BASE, LIBRARY, CODE), "b": (BASE, LIBRARY)}
    assert layer_order.cost(order) == 100 * 3 + 10 * 7 + 1 * 33


@pytest.mark.parametrize(("size", "lowest"), [(24, "library"), (26, "model")])
def test_a_model_stands_below_libraries_of_four_times_its_size(size: int, lowest: str) -> None:
    """Libraries change four times as often: a quarter of their weight is where both orders cost the same."""
    library = Block(name="library", kind="requirement", size=100)
    stack = Stack(image="a", blocks=(library, CODE), models=(Block(name="model", kind="model", size=size),))
    order = layer_order.arrange([stack])["a"]
    assert [b.name for b in order] == [lowest, "model" if lowest == "library" else "library", "code"]
