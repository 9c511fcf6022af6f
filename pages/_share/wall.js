const $ = (id) => document.getElementById(id)
const make = (name, text = "") => Object.assign(document.createElement(name), { textContent: text })
const wall = $("wall")
const EVERY = 1000

function card(hung) {
  const article = make("article")
  article.className = hung.kind
  article.dataset.id = hung.id
  const image = make("img")
  image.src = hung.picture
  image.alt = hung.heading
  const said = make("div")
  said.className = "said"
  const head = make("h2")
  const certain = !["unlike", "far"].includes(hung.kind)
  head.append(make("span", hung.heading))
  said.append(head)
  if (certain) {
    head.append(make("small", `${Math.round(100 * hung.probability)}%`))
    const bar = make("div")
    bar.className = "bar"
    const fill = make("i")
    fill.style.width = `${100 * hung.probability}%`
    bar.append(fill)
    said.append(bar)
  }
  if (hung.word) said.append(Object.assign(make("span", hung.word), { className: "badge" }))
  article.append(image, said)
  return article
}

function draw(found) {
  const there = new Set(found.ids)
  for (const article of [...wall.children]) if (!there.has(article.dataset.id)) article.remove()
  // All come again once the newest was taken down.
  const shown = new Set([...wall.children].map((article) => article.dataset.id))
  for (const hung of found.fresh.reverse()) if (!shown.has(hung.id)) wall.prepend(card(hung))
  document.body.classList.toggle("empty", !wall.children.length)
  const photos = `${found.used.toLocaleString("en")} ${found.used === 1 ? "photo" : "photos"} so far`
  const full = found.used >= found.uses ? ": the link takes no more" : ""
  $("state").textContent = found.used ? photos + full : "Waiting for the first photo"
}

async function look() {
  const newest = wall.firstElementChild?.dataset.id ?? ""
  try {
    const sent = await fetch(`${location.pathname}/answers?after=${newest}`)
    const found = await sent.json()
    if (sent.status === 410) {
      wall.replaceChildren()
      $("scan").hidden = true
      $("state").textContent = found.error
      return
    }
    if (sent.ok) draw(found)
  } catch {
    $("state").textContent = "The connection is lost; trying again"
  }
  setTimeout(look, EVERY)
}

// The guests' address and its QR code are behind the #, which never reaches the server.
function scan() {
  const [address, dots] = location.hash.slice(1).split("~")
  if (!dots || !/^[\w-]+$/.test(dots)) return
  const bytes = [...atob(dots.replaceAll("-", "+").replaceAll("_", "/"))].map((c) => c.charCodeAt(0))
  const bits = bytes.map((byte) => byte.toString(2).padStart(8, "0")).join("")
  const side = Math.floor(Math.sqrt(bits.length))
  const start = bits.length - side * side
  let path = ""
  for (let i = 0; i < side * side; i += 1) {
    if (bits[start + i] === "1") path += `M${4 + (i % side)} ${4 + Math.floor(i / side)}h1v1h-1z`
  }
  const SVG = "http://www.w3.org/2000/svg"
  const code = document.createElementNS(SVG, "svg")
  code.setAttribute("viewBox", `0 0 ${side + 8} ${side + 8}`)
  code.setAttribute("role", "img")
  code.setAttribute("aria-label", `QR code of ${decodeURIComponent(address)}`)
  const drawn = document.createElementNS(SVG, "path")
  drawn.setAttribute("d", path)
  drawn.setAttribute("fill", "#000")
  code.append(drawn)
  $("scan").append(code, make("span", "Scan and try it"))
  $("scan").hidden = false
}

scan()
look()
