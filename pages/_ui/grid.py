"""A grid of thumbnails that can be chosen by click or key: one component, whatever the number."""

import re

import streamlit as st

from pages._ui import live_chart

_JS = """
export default function (component) {
  const { data, parentElement, setStateValue } = component
  const root = parentElement.querySelector(".graft-grid")
  if (!root || !data) return
  // Drawn anew only for other tiles: pictures that are there stay.
  const identity = JSON.stringify(data.tiles)
  if (root.dataset.identity !== identity) {
    root.dataset.identity = identity
    root.replaceChildren(...data.tiles.map((tile) => {
      const button = document.createElement("button")
      button.type = "button"
      button.className = "graft-tile"
      button.title = tile.title
      const image = document.createElement("img")
      image.loading = "lazy"
      image.alt = tile.alt
      image.src = data.base + tile.src
      image.onerror = () => { button.classList.add("lost"); image.alt = "cannot be read" }
      const caption = document.createElement("span")
      caption.textContent = tile.caption
      const note = document.createElement("small")
      note.textContent = tile.note || ""
      button.append(image, caption, note)
      button.dataset.id = tile.id
      return button
    }))
    root.chosen = new Set(data.chosen)
  }
  if (data.clear !== root.dataset.clear) {
    root.dataset.clear = data.clear
    root.chosen = new Set(data.chosen)
  }
  const paint = () => root.querySelectorAll(".graft-tile").forEach((tile) => {
    tile.setAttribute("aria-pressed", root.chosen.has(Number(tile.dataset.id)))
  })
  root.onclick = (event) => {
    const tile = event.target.closest(".graft-tile")
    if (!tile || !data.choose) return
    const id = Number(tile.dataset.id)
    root.chosen.has(id) ? root.chosen.delete(id) : root.chosen.add(id)
    paint()
    setStateValue("chosen", [...root.chosen])
  }
  paint()
}
"""

_CSS = """
.graft-grid { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); }
.graft-tile { display: flex; flex-direction: column; gap: 2px; padding: 6px; min-width: 0;
  border: 2px solid transparent; border-radius: 8px; background: var(--st-secondary-background-color);
  color: var(--st-text-color); font: inherit; font-size: 13px; text-align: left; cursor: pointer; }
.graft-tile:hover { border-color: var(--st-border-color); }
.graft-tile:focus-visible { outline: 2px solid var(--st-primary-color); }
.graft-tile[aria-pressed="true"] { border-color: var(--st-primary-color); }
.graft-tile[aria-pressed="true"] span::before { content: "\\2713\\00a0"; color: var(--st-primary-color); }
.graft-tile img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 4px; }
.graft-tile span, .graft-tile small { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.graft-tile small { opacity: 0.75; min-height: 1.2em; }
.graft-tile.lost img { opacity: 0.5; }
"""

_COMPONENT = st.components.v2.component(
    "graft_grid",
    html='<div class="graft-grid" role="group" aria-label="images"></div>\n',
    css=_CSS,
    js=_JS,
    isolate_styles=False,
)


def grid(tiles: list[dict], key: str, choose: bool = True) -> list[int]:
    """Draws tiles; returns the ids of those that are chosen.

    Args:
        tiles: dicts of id (int), src (address of the picture, without base path), caption, note
            (a second line), alt and title.
        key: the same from one rerun to the next for the same tiles.
        choose: whether tiles can be chosen.
    """
    key = re.sub("_+", "-", key)  # Streamlit keeps the double underscore for itself
    kept = st.session_state.get(key, {}).get("chosen") or []
    ids = {tile["id"] for tile in tiles}
    chosen = [i for i in kept if i in ids]
    data = {
        "tiles": tiles,
        "chosen": chosen,
        "choose": choose,
        "clear": str(len(kept)) if not kept else "",
        "base": live_chart.base(),
    }
    _COMPONENT(key=key, data=data, on_chosen_change=lambda: None)
    return chosen
