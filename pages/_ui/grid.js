export default function (component) {
  const { data, parentElement, setStateValue } = component
  const root = parentElement.querySelector(".graft-grid")
  if (!root || !data) return
  // Drawn again only for other tiles, so pictures already loaded stay.
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
      image.src = tile.src.startsWith("data:") ? tile.src : data.base + tile.src
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
