"""What is trained in every stage, as a map and as a table."""

import streamlit as st

from engine.charts import freezing as charts_freezing
from engine.host import words
from engine.models import backbones, freezing
from engine.runs import runs
from pages._ui import common
from pages._ui.live_chart import chart


def freeze_map(recipe, classes: int) -> None:
    """Draws the map of a recipe's stages.

    Args:
        recipe: a valid Recipe.
        classes: number of classes.
    """
    name = recipe.backbone.name
    blocks, features = blocks_of(name, recipe.backbone.alpha)
    head = freezing.head_params(features, recipe.head.hidden, classes)
    rows = freezing.freeze_map(blocks, recipe.stages, head)
    names = [stage.name for stage in recipe.stages]
    chart(charts_freezing.freeze_map(rows, names), "freeze_map")
    st.caption(
        "● trained, ◐ partly, – frozen. Below the sign, batch normalization: = kept as pretrained, "
        "~ adapted to your images."
    )
    total = rows[-1]
    for place, (stage, cell) in enumerate(zip(names, total.cells, strict=True), 1):
        share = cell.trainable / max(1, cell.trainable + cell.frozen)
        st.markdown(
            f"**{place} {common.plain(stage)}**: {words.grouped(cell.trainable)} of "
            f"{words.grouped(total.params)} parameters are trained ({100 * share:.1f}%)"
        )
    with st.expander("Block by block, with numbers"):
        st.dataframe(_table(rows, names), hide_index=True)


def blocks_of(name: str, alpha: float | None) -> tuple:
    """(blocks, length of the feature vector) of a backbone, which may be a run."""
    if name.startswith("run:"):
        built = runs.get_run(common.home(), name[4:]).architecture or {}
        return backbones.blocks_from_json(built.get("blocks", [])), built.get("features", 0)
    return backbones.blocks(name, alpha), backbones.get(name, alpha).features


def _table(rows, names):
    signs = {"frozen": "– frozen", "partly": "◐ partly", "trainable": "● trained"}
    norms = {"keep": ", batch norm kept", "update": ", batch norm updated", "none": ""}
    table = []
    for row in rows:
        line = {"Block": row.name, "Layers": row.layers or None, "Parameters": row.params}
        for place, (stage, cell) in enumerate(zip(names, row.cells, strict=True), 1):
            line[f"{place} {stage}"] = signs[cell.state] + norms[cell.batch_norm]
            line[f"{place} trained"] = cell.trainable
        table.append(line)
    return table
