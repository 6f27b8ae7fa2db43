// The central station: sign in, then one WebSocket; every frame is kept, and painted unless paused.
import { alertKey, allow, paintAlerts } from './alerts.js'
import { closeBed, openBed } from './bed.js'
import { ask, byId, clock, mark, write } from './dom.js'
import { closePlaces, openPlaces } from './places.js'
import { keep, paint, refill, renew } from './tiles.js'

const STALE_MS = 5000
let paused = false
let missed = 0
let last = 0
let frames = 0
let ended = false
let mayPlace = false

const root = document.documentElement

function banner(text) {
  byId('banner').hidden = !text
  write(byId('banner'), text)
}

function told() {
  if (Date.now() - last > STALE_MS && last) {
    mark(byId('grid'), 'class', 'grid stale')
    banner('NO CONNECTION. The values are old.')
    return
  }
  mark(byId('grid'), 'class', 'grid')
  banner(paused ? `TRENDS PAUSED. ${missed} updates are kept and wait. Alerts go on.` : '')
}

function shown(frame, arrived) {
  paintAlerts(frame.patients)
  if (paused) missed += 1
  else if (!byId('grid-part').hidden) paint()
  write(byId('state'), `${clock(frame.at_s)} UTC, live`)
  told()
  requestAnimationFrame(() => setTimeout(() => {
    frames += 1
    root.dataset.paintMs = (performance.now() - arrived).toFixed(1)
    root.dataset.frames = frames
  }))
}

async function history() {
  refill(await ask('GET', `/trends?code=${byId('code').value}`))
  if (!paused) paint()
}

function connect() {
  const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/live`)
  let first = true
  socket.addEventListener('message', (event) => {
    const arrived = performance.now()
    const frame = JSON.parse(event.data)
    last = Date.now()
    keep(frame, byId('code').value)
    shown(frame, arrived)
    if (first) history()
    first = false
  })
  socket.addEventListener('close', async () => {
    if (ended) return
    const who = await ask('GET', '/session').catch(() => null)
    if (who && !who.name) location.reload()
    else setTimeout(connect, 1000)
  })
}

function pause() {
  paused = !paused
  if (!paused) { missed = 0; paint() }
  byId('pause').setAttribute('aria-pressed', String(paused))
  told()
}

function route() {
  const found = /^#\/bed\/(.+)$/.exec(location.hash)
  closePlaces()
  if (found) openBed(decodeURIComponent(found[1]), () => paused)
  else if (location.hash === '#/places') { closeBed(); openPlaces(mayPlace) }
  else { closeBed(); renew(); paint() }
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea')) return
  const key = event.key.toLowerCase()
  if (key === 'p') pause()
  else if (key === 'escape') location.hash = '#/'
  else if (!alertKey(key)) return
  event.preventDefault()
}

function begin(who) {
  allow(who.may_acknowledge)
  mayPlace = who.may_acknowledge
  write(byId('who'), `${who.name}, ${who.role}`)
  byId('simulated').hidden = !who.simulated
  byId('token').blur() // a hidden field keeps the keyboard until the next painting
  byId('enter').hidden = true
  for (const node of [byId('layout'), byId('pause'), byId('leave'), byId('to-places'), document.querySelector('.trend')]) node.hidden = false
  byId('pause').addEventListener('click', pause)
  byId('code').addEventListener('change', history)
  byId('leave').addEventListener('click', async () => { ended = true; await ask('DELETE', '/session'); location.reload() })
  addEventListener('keydown', keys)
  addEventListener('hashchange', route)
  let settle
  addEventListener('resize', () => { clearTimeout(settle); settle = setTimeout(renew, 200) })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', renew)
  setInterval(told, 1000)
  route()
  connect()
}

async function enter(token) {
  begin(await ask('POST', '/session', { token }))
}

function form() {
  byId('enter').hidden = false
  write(byId('state'), 'Not signed in')
  byId('token').focus()
  byId('enter').addEventListener('submit', (event) => {
    event.preventDefault()
    enter(byId('token').value).catch((error) => write(byId('wrong'), error.message))
  })
}

// The address that the demonstration prints carries its one token behind the #, which no server sees.
const carried = /^#token=(.+)$/.exec(location.hash)
if (carried) {
  window.history.replaceState(null, '', '/')
  enter(decodeURIComponent(carried[1])).catch(form)
} else {
  ask('GET', '/session').then((who) => (who.name ? begin(who) : form()), form)
}

