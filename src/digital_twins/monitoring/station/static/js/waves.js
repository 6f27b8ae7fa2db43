// Waveforms of one bed: a WebSocket, a canvas each, swept from left to right as at the bedside.
import { colour, h, mark, write } from './dom.js'

const WINDOW_S = 8
const GAP_S = 0.4 // what is blank before the pen
const LAG_S = 0.6 // drawn this much late, so that pieces that come in steps run evenly
const MOST_LAG_S = 3.5
const SILENT_MS = 4000
const HEIGHT = 84

class Wave {
  constructor(parent, piece) {
    this.hz = piece.hz
    this.low = piece.low
    this.high = piece.high
    this.canvas = h('canvas', { role: 'img', 'aria-label': `${piece.name}, waveform of the last ${WINDOW_S} seconds` })
    this.state = h('span', { class: 'muted' })
    const unit = piece.unit === '1' ? '' : `, ${piece.unit.replace('mm[Hg]', 'mmHg')}`
    parent.append(h('figure', { class: 'wave' }, h('figcaption', {}, `${piece.name}${unit} `, this.state), this.canvas))
    this.values = []
    this.first = piece.t // time of values[0]
    this.drawn = null
    this.size()
  }

  size() {
    const ratio = window.devicePixelRatio || 1
    this.width = this.canvas.clientWidth || 600
    this.canvas.width = this.width * ratio
    this.canvas.height = HEIGHT * ratio
    this.pen = this.canvas.getContext('2d')
    this.pen.scale(ratio, ratio)
    this.pen.lineWidth = 1.6
    this.pen.lineJoin = 'round'
    this.pen.strokeStyle = colour('--ink')
    this.pen.fillStyle = colour('--surface')
    this.drawn = null
  }

  get end() { return this.first + this.values.length / this.hz }

  add(piece) {
    const gap = Math.round((piece.t - this.end) * this.hz)
    if (gap < -2 || gap > WINDOW_S * this.hz || piece.hz !== this.hz) {
      this.hz = piece.hz
      this.values = []
      this.first = piece.t
      this.drawn = null
    } else for (let n = 0; n < gap; n += 1) this.values.push(null)
    this.values.push(...piece.v)
    const spare = this.values.length - 2 * WINDOW_S * this.hz
    if (spare > 0) { this.values.splice(0, spare); this.first += spare / this.hz }
    const known = piece.v.filter((each) => each !== null)
    if (known.length) {
      const low = Math.min(...known)
      const high = Math.max(...known)
      if (low < this.low || high > this.high) { this.low = Math.min(this.low, low); this.high = Math.max(this.high, high); this.drawn = null }
    }
    this.heard = Date.now()
  }

  at(n) { return HEIGHT - 6 - ((this.values[n] - this.low) / (this.high - this.low)) * (HEIGHT - 12) }

  draw(until) {
    const from = Math.max(this.drawn ?? -Infinity, until - WINDOW_S + GAP_S, this.first)
    if (this.drawn === null) this.pen.fillRect(0, 0, this.width, HEIGHT)
    const place = (time) => ((time % WINDOW_S) / WINDOW_S) * this.width
    const blank = (start, length) => {
      const x = place(start)
      const wide = (length / WINDOW_S) * this.width
      this.pen.fillRect(x, 0, wide, HEIGHT)
      if (x + wide > this.width) this.pen.fillRect(0, 0, x + wide - this.width, HEIGHT)
    }
    if (until <= from) return
    blank(from, until - from + GAP_S)
    this.pen.beginPath()
    let on = false
    let before = -1
    const start = Math.max(0, Math.floor((from - this.first) * this.hz) - 1)
    const stop = Math.min(this.values.length, Math.floor((until - this.first) * this.hz))
    for (let n = start; n < stop; n += 1) {
      const x = place(this.first + n / this.hz)
      if (this.values[n] === null) on = false
      else if (on && x >= before) this.pen.lineTo(x, this.at(n))
      else { this.pen.moveTo(x, this.at(n)); on = true }
      before = x
    }
    this.pen.stroke()
    this.drawn = this.first + Math.max(start, stop - 1) / this.hz
  }
}

// Shows the waveforms of a patient in a part of the page; returns what ends it.
export function openWaves(part, patient, paused) {
  const waves = new Map()
  const silence = h('p', { class: 'muted', role: 'status' }, 'No waveform has come from this bed.')
  part.append(silence)
  let ended = false
  let socket
  let until = null
  let before = performance.now()

  const connect = () => {
    const address = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/patients/${encodeURIComponent(patient)}/waveforms`
    socket = new WebSocket(address)
    socket.addEventListener('message', (event) => {
      for (const piece of JSON.parse(event.data).waveforms) {
        if (!waves.has(piece.code)) waves.set(piece.code, new Wave(part, piece))
        waves.get(piece.code).add(piece)
        silence.hidden = true
      }
    })
    socket.addEventListener('close', () => { if (!ended) setTimeout(() => { if (!ended) connect() }, 1000) })
  }

  const look = () => {
    for (const wave of waves.values()) {
      const silent = Date.now() - wave.heard > SILENT_MS
      write(wave.state, silent ? '· NO SIGNAL' : '')
      mark(wave.canvas, 'class', silent ? 'silent' : null)
    }
  }

  const step = (now) => {
    if (ended) return
    const ends = [...waves.values()].filter((wave) => Date.now() - wave.heard <= SILENT_MS).map((wave) => wave.end)
    if (ends.length) {
      const newest = Math.max(...ends)
      const next = (until ?? newest - MOST_LAG_S) + (now - before) / 1000
      until = Math.max(newest - MOST_LAG_S, Math.min(next, newest - LAG_S / 4))
      if (!paused()) for (const wave of waves.values()) wave.draw(Math.min(until, wave.end))
    }
    before = now
    requestAnimationFrame(step)
  }

  const renew = () => waves.forEach((wave) => wave.size())
  const dark = matchMedia('(prefers-color-scheme: dark)')
  addEventListener('resize', renew)
  dark.addEventListener('change', renew)
  const timer = setInterval(look, 1000)
  connect()
  requestAnimationFrame(step)
  return () => {
    ended = true
    clearInterval(timer)
    removeEventListener('resize', renew)
    dark.removeEventListener('change', renew)
    socket.close()
  }
}
