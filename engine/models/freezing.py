"""Which layers of a backbone are trained in a stage, and the freeze map of the Configure page.

Light: works on the catalogue's block tables, without Keras. Values of `trainable`:

    none            only the head
    all             the whole backbone
    last N blocks   the N blocks nearest to the head
    from LAYER      that layer and every one after it; a block's name means its first layer

Batch normalization follows `batch_norm`: with "keep" none of these layers is trained and their
moving statistics do not change; with "update" those in the trainable part are trained and their
statistics follow the images.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import RecipeError
from engine.models.backbones import Block
from engine.recipe import StageSpec


@dataclass(frozen=True)
class Cell:
    """One block (or the head, or the total) in one stage.

    Attributes:
        state: "frozen", "trainable", or "partly" where only some layers are trained. Kept batch
            normalization does not count against "trainable".
        batch_norm: "keep", "update", or "none" where there is no batch normalization.
        trainable: parameters that gradients change.
        frozen: all other parameters; these always include moving statistics.
    """

    state: str
    batch_norm: str
    trainable: int
    frozen: int


@dataclass(frozen=True)
class Row:
    """One line of the freeze map: a block in every stage.

    Attributes:
        name: the block's name, "head" or "total".
        kind: "block", "head" or "total".
        layers: number of weight-bearing layers (0 for the head).
        params: all parameters.
        cells: one for each stage, in order.
    """

    name: str
    kind: str
    layers: int
    params: int
    cells: tuple[Cell, ...]


def trainable_names(
    blocks: Sequence[Block], trainable: str, batch_norm: str = "keep"
) -> frozenset[str]:
    """Names of the backbone's layers that are trained.

    Args:
        blocks: the backbone's blocks, input to output.
        trainable: none, all, last N blocks, or from LAYER.
        batch_norm: "keep" excludes batch-normalization layers, "update" includes them.

    Raises:
        RecipeError: with the field `trainable`, for more blocks than there are, an unknown layer,
            or any other text.
    """
    layers = [layer for block in blocks for layer in block.layers]
    chosen = layers[_start(blocks, trainable) :]
    return frozenset(x.name for x in chosen if batch_norm == "update" or not x.batch_norm)


def head_params(features: int, hidden: int, classes: int) -> int:
    """Parameters of a head: weights and biases of the hidden layer, if any, and of the last one."""
    first = (features + 1) * hidden if hidden else 0
    return first + ((hidden or features) + 1) * classes


def freeze_map(blocks: Sequence[Block], stages: Sequence[StageSpec], head_params: int) -> list[Row]:
    """What is trained in every stage, block by block.

    Args:
        blocks: the backbone's blocks, input to output.
        stages: of the recipe; `trainable` and `batch_norm` are read.
        head_params: parameters of the head, which is trained in every stage.

    Returns:
        A row for each block, then the head's, then the total.

    Raises:
        RecipeError: as in `trainable_names`, with the path of the stage's field.
    """
    learning = []
    for i, stage in enumerate(stages):
        try:
            learning.append(trainable_names(blocks, stage.trainable, stage.batch_norm))
        except RecipeError as error:
            raise RecipeError(
                {f"stages.{i}.trainable": text for text in error.problems.values()}
            ) from None
    rows = [
        Row(b.name, "block", len(b.layers), b.params, tuple(_cell(b, names) for names in learning))
        for b in blocks
    ]
    head = Cell("trainable", "none", head_params, 0)
    rows.append(Row("head", "head", 0, head_params, (head,) * len(learning)))
    total = tuple(_total([row.cells[i] for row in rows]) for i in range(len(learning)))
    layers, params = sum(r.layers for r in rows), sum(r.params for r in rows)
    return [*rows, Row("total", "total", layers, params, total)]


def _start(blocks: Sequence[Block], trainable: str) -> int:
    """Index of the first layer of the trainable part."""
    sizes = [len(block.layers) for block in blocks]
    if trainable == "none":
        return sum(sizes)
    if trainable == "all":
        return 0
    last = re.fullmatch(r"last ([1-9]\d{0,3}) blocks?", trainable)
    if last:
        count = int(last[1])
        if count > len(blocks):
            raise RecipeError({
                "trainable": f"last N blocks needs N from 1 to {len(blocks)}, the blocks of this "
                f"backbone; {count} was given (use all to train the whole backbone)"
            })  # fmt: skip
        return sum(sizes[: len(sizes) - count])
    named = re.fullmatch(r"from (\S+)", trainable)
    if not named:
        raise RecipeError({
            "trainable": f"must be none, all, last N blocks, or from LAYER; {trainable!r} was given"
        })  # fmt: skip
    positions = {}
    for i, block in enumerate(blocks):
        positions[block.name] = sum(sizes[:i])
    positions |= {x.name: i for i, x in enumerate(x for b in blocks for x in b.layers)}
    if named[1] not in positions:
        # Block names first: block_13_add, for example, has no weights but resembles one.
        near = difflib.get_close_matches(named[1], list(positions), 3, 0.5)
        hint = f"did you mean {' or '.join(near)}" if near else (
            f"blocks are {', '.join(b.name for b in blocks[:3])} … {blocks[-1].name}"
            if blocks else "this backbone has no blocks")  # fmt: skip
        raise RecipeError({
            "trainable": f"from LAYER needs a layer with weights, or a block, of this backbone; "
            f"{named[1]!r} is none; {hint}"
        })  # fmt: skip
    return positions[named[1]]


def _cell(block: Block, names: frozenset[str]) -> Cell:
    learns = [x for x in block.layers if x.name in names]
    trainable = sum(x.learnable for x in learns)
    norms = [x for x in block.layers if x.batch_norm]
    batch_norm = "none"
    if norms:
        batch_norm = "update" if any(x in learns for x in norms) else "keep"
    # Layers without trainable weights (input normalization) and kept batch norm do not count.
    telling = [x for x in block.layers if x.learnable and not x.batch_norm] or norms
    learning = sum(x in learns for x in telling)
    return Cell(_state(learning, len(telling)), batch_norm, trainable, block.params - trainable)


def _total(cells: Sequence[Cell]) -> Cell:
    states = {cell.state for cell in cells[:-1]}  # the last is the head, always trained
    state = states.pop() if len(states) == 1 else "partly" if states else "trainable"
    norms = {cell.batch_norm for cell in cells} - {"none"}
    batch_norm = "update" if "update" in norms else "keep" if norms else "none"
    return Cell(
        "partly" if state == "frozen" else state,
        batch_norm,
        sum(cell.trainable for cell in cells),
        sum(cell.frozen for cell in cells),
    )


def _state(learning: int, count: int) -> str:
    if not learning:
        return "frozen"
    return "trainable" if learning == count else "partly"
