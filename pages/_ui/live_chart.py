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
  const lasso = layout.dragmode === "lasso"
  Plotly.react(box, data, layout, {
    responsive: true, displaylogo: false, doubleClick: "reset+autosize",
    // By default a button of every chart sends its data to Plotly's cloud.
    showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: lasso ? ["autoScale2d"] : ["select2d", "lasso2d", "autoScale2d"],
  })
  if (box.latest.pick && !box.listens) listen(box)
  box.dataset.drawn = String(Number(box.dataset.drawn || 0) + 1)
}

// Clicks and lassos tell the page which images they stand for; hovering shows the image itself.
function listen(box) {
  box.listens = true
  const tell = (points) => box.tell("picked", points.map((point) => point.customdata))
  box.on("plotly_click", (event) => tell(event.points.slice(0, 1)))
  box.on("plotly_selected", (event) => { if (event && event.points.length) tell(event.points) })
  box.on("plotly_hover", (event) => {
    const found = event.points[0].customdata
    if (!box.latest.thumbs || !found || found[0] !== "image") return
    let tip = document.querySelector(".graft-tip")
    if (!tip) {
      tip = document.createElement("div")
      tip.className = "graft-tip"
      tip.append(document.createElement("img"), document.createElement("span"))
      document.body.append(tip)
    }
    tip.firstChild.src = box.latest.base + box.latest.thumbs + "/" + found[2]
    tip.lastChild.textContent = found[3]
    const { clientX: x, clientY: y } = event.event
    tip.style.left = Math.min(x + 16, window.innerWidth - 190) + "px"
    tip.style.top = Math.min(y + 16, window.innerHeight - 200) + "px"
    tip.style.display = "block"
  })
  box.on("plotly_unhover", hideTip)
}

function hideTip() {
  const tip = document.querySelector(".graft-tip")
  if (tip) tip.style.display = "none"
}

export default function (component) {
  const { data, parentElement } = component
  const box = parentElement.querySelector(".graft-chart")
  if (!box || !data) return
  box.latest = data
  box.tell = component.setTriggerValue
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
    hideTip()
    box.listens = false
    if (window.Plotly) window.Plotly.purge(box)
  }
}
"""

_CSS = """
.graft-chart { width: 100%; overflow: hidden; }
.graft-chart .modebar { opacity: 0; transition: opacity 0.15s; }
.graft-chart:hover .modebar { opacity: 1; }
.graft-tip { position: fixed; z-index: 1000; display: none; pointer-events: none; padding: 6px;
  border-radius: 8px; background: #fff; color: #222; box-shadow: 0 2px 12px rgba(0, 0, 0, 0.35);
  font-size: 13px; max-width: 176px; }
.graft-tip img { display: block; max-width: 160px; max-height: 160px; border-radius: 4px; }
"""

_COMPONENT = st.components.v2.component(
    "graft_chart",
    html='<div class="graft-chart" role="img"></div>\n',
    css=_CSS,
    js=_JS,
    isolate_styles=False,
)


def chart(figure, key: str, alt: str = "", on_pick=None, thumbs: str = "") -> None:
    """Draws a figure, or brings the one already there up to date.

    Args:
        figure: a Plotly figure of `engine.charts`.
        key: the same from one rerun to the next, and different for every chart of a page.
        alt: what a screen reader says; the figure's title if left out.
        on_pick: called with the customdata of what was clicked, or caught with the lasso (a list).
        thumbs: address below which thumbnails lie, to be shown at the pointer; see `_pictures`.
    """
    draw(payload(figure, alt) | {"thumbs": thumbs}, key, on_pick)


def payload(figure, alt: str = "") -> dict:
    """What the browser needs of a figure: plain data that can be kept and drawn again."""
    return {
        "figure": figure.to_json(),
        "height": figure.layout.height or figure.layout.template.layout.height or 320,
        "alt": alt or figure.layout.title.text or "chart",
    }


def draw(data: dict, key: str, on_pick=None) -> None:
    """Draws a `payload`; see `chart`."""
    options = {"data": data | {"base": base(), "pick": on_pick is not None}, "key": key}

    def heard():
        picks = st.session_state[key].get("picked")
        if picks:
            on_pick(picks)

    if on_pick:
        options["on_picked_change"] = heard
    _COMPONENT(height=data["height"], **options)


def base() -> str:
    """The path that the server puts before all addresses, such as "/graft"; mostly empty."""
    path = st.get_option("server.baseUrlPath").strip("/")
    return f"/{path}" if path else ""
