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

// Clicks and lassos report the images they stand for to the page; hovering shows the image.
function listen(box) {
  box.listens = true
  const report = (points) => box.report("picked", points.map((point) => point.customdata))
  box.on("plotly_click", (event) => report(event.points.slice(0, 1)))
  box.on("plotly_selected", (event) => { if (event && event.points.length) report(event.points) })
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
  box.report = component.setTriggerValue
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
