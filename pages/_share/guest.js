const $ = (id) => document.getElementById(id)
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`
const TRIES = 6
let preview = ""

function show(id, text) {
  $(id).hidden = text === null
  if (text !== null) $(id).textContent = text
}

function refuse(text) {
  show("working", null)
  show("wrong", text)
}

function begin(file) {
  URL.revokeObjectURL(preview)
  preview = URL.createObjectURL(file)
  $("photo").hidden = false
  $("photo").src = preview
  $("card").className = ""
  for (const id of ["wrong", "sentence", "kept"]) show(id, null)
  for (const id of ["answer", "verdict", "top"]) $(id).hidden = true
  show("working", "Looking at your photo")
  $("card").hidden = false
  document.body.classList.add("answered")
}

function answer(found) {
  show("working", null)
  show("left", left(found.left))
  if (!found.left) $("choose").hidden = true
  if (found.error) return refuse(found.error)
  const reply = found.reply
  $("card").className = reply.kind
  const sure = !["unlike", "far"].includes(reply.kind)
  $("heading").textContent = reply.heading
  $("share").textContent = sure ? percent(reply.probability) : ""
  $("answer").hidden = false
  $("word").textContent = reply.word
  $("verdict").hidden = !reply.word
  show("sentence", reply.kind === "sure" ? null : reply.sentence) // the word says it all
  $("top").replaceChildren(...reply.top.map(([label, share]) => {
    const item = document.createElement("li")
    const line = document.createElement("div")
    const name = document.createElement("span")
    name.textContent = label
    const value = document.createElement("span")
    value.textContent = percent(share)
    line.append(name, value)
    const bar = document.createElement("div")
    bar.className = "bar"
    const fill = document.createElement("i")
    fill.style.width = "0"
    bar.append(fill)
    item.append(line, bar)
    requestAnimationFrame(() => requestAnimationFrame(() => { fill.style.width = `${100 * share}%` }))
    return item
  }))
  $("top").hidden = false
  if (found.note) show("kept", found.note)
}

const left = (count) => (count ? `${count.toLocaleString("en")} ${count === 1 ? "photo" : "photos"} left.` : "That was the last photo of this link.")

// Photos are sent as they are; only one that the server would refuse is made smaller here.
async function smaller(file) {
  if (file.size <= MOST) return file
  const image = await createImageBitmap(file)
  const scale = Math.min(1, 4000 / Math.max(image.width, image.height))
  const canvas = document.createElement("canvas")
  canvas.width = Math.round(image.width * scale)
  canvas.height = Math.round(image.height * scale)
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height)
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92))
}

async function send(file) {
  for (let turn = 1; ; turn += 1) {
    const sent = await fetch(`${location.pathname}/classify`, {
      method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
    })
    if (sent.status !== 429 || turn === TRIES) return sent
    show("working", "Many people are trying it; waiting for your turn")
    const seconds = Number(sent.headers.get("Retry-After")) || 1
    await new Promise((done) => setTimeout(done, 1000 * seconds))
  }
}

async function chosen(event) {
  const [file] = event.target.files
  event.target.value = ""
  if (!file) return
  document.body.classList.add("busy")
  begin(file)
  try {
    const sent = await send(await smaller(file))
    const found = await sent.json()
    if (found.closed) for (const id of ["choose", "left"]) $(id).hidden = true
    if (sent.ok || "left" in found) answer(found)
    else refuse(found.error)
  } catch {
    refuse("The photo could not be sent. Check the connection and try again.")
  }
  document.body.classList.remove("busy")
  $("card").scrollIntoView({ block: "nearest" })
}

$("photo").onerror = () => { $("photo").hidden = true } // a format that only the server reads
for (const input of document.querySelectorAll("input")) input.onchange = chosen
