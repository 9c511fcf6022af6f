"""A Plotly chart that is updated in place: zoom and hover stay, and nothing flickers.

`st.plotly_chart` is mounted anew whenever its figure changes, which loses the zoom and blanks the
chart for a frame. This component hands new figures to `Plotly.react`, and takes text colours from
the page's theme.
"""

import streamlit as st

_JS = """
// Plotly is loaded once for the whole page; every chart waits for the same promise.
function loadPlotly(base) {
  if (window.Plotly) return Promise.resolve(window.Plotly)
  if (!window.__graftPlotly) {
    window.__graftPlotly = new Promise((resolve, reject) => {
      const script = document.createElement("script")
      script.src = base + "/vendor/plotly.min.js"
      script.onload = () => resolve(window.Plotly)
      script.onerror = () => { window.__graftPlotly = undefined; reject(new Error("no Plotly")) }
      document.head.appendChild(script)
    })
  }
  return window.__graftPlotly
}

function draw(box, Plotly) {
  const { figure, alt } = box.latest
  const { data, layout } = JSON.parse(figure)
  const theme = getComputedStyle(box)
  const token = (name) => theme.getPropertyValue(name).trim()
  layout.autosize = true
  layout.font = { ...layout.font, color: token("--st-text-color"), family: token("--st-font") }
  layout.hoverlabel = {
    ...layout.hoverlabel,
    bgcolor: token("--st-secondary-background-color"),
    bordercolor: token("--st-border-color"),
    font: { color: token("--st-text-color") },
  }
  box.setAttribute("aria-label", alt)
  Plotly.react(box, data, layout, {
    responsive: true, displaylogo: false, doubleClick: "reset+autosize",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  })
  box.dataset.drawn = String(Number(box.dataset.drawn || 0) + 1)
}

export default function (component) {
  const { data, parentElement } = component
  const box = parentElement.querySelector(".graft-chart")
  if (!box || !data) return
  box.latest = data
  box.style.height = data.height + "px"
  loadPlotly(data.base).then((Plotly) => {
    if (!box.isConnected) return
    draw(box, Plotly)
    if (!box.watcher) {
      box.watcher = new ResizeObserver(() => box.isConnected && Plotly.Plots.resize(box))
      box.watcher.observe(parentElement)
    }
  }).catch(() => { box.textContent = "The chart could not be loaded; reload the page." })
  return () => {
    if (box.watcher) box.watcher.disconnect()
    if (window.Plotly) window.Plotly.purge(box)
  }
}
"""

_CSS = """
.graft-chart { width: 100%; overflow: hidden; }
.graft-chart .modebar { opacity: 0; transition: opacity 0.15s; }
.graft-chart:hover .modebar { opacity: 1; }
"""

_COMPONENT = st.components.v2.component(
    "graft_chart",
    html='<div class="graft-chart" role="img"></div>\n',
    css=_CSS,
    js=_JS,
    isolate_styles=False,
)


def chart(figure, key: str, alt: str = "") -> None:
    """Draws a figure, or brings the one already there up to date.

    Args:
        figure: a Plotly figure of `engine.charts`.
        key: the same from one rerun to the next, and different for every chart of a page.
        alt: what a screen reader says; the figure's title if left out.
    """
    draw(payload(figure, alt), key)


def payload(figure, alt: str = "") -> dict:
    """What the browser needs of a figure: plain data that can be kept and drawn again."""
    return {
        "figure": figure.to_json(),
        "height": figure.layout.height or figure.layout.template.layout.height or 320,
        "alt": alt or figure.layout.title.text or "chart",
    }


def draw(data: dict, key: str) -> None:
    """Draws a `payload`; see `chart`."""
    base = st.get_option("server.baseUrlPath").strip("/")
    _COMPONENT(data=data | {"base": f"/{base}" if base else ""}, key=key, height=data["height"])
