// The beds: one tile a patient with its numbers and a live trend of the last five minutes.
import { byId, colour, h, mark, whole, write } from './dom.js'

const SPAN_S = 300
const MARKS = { high: '***', medium: '**', low: '*' }
const tiles = new Map()
// Trends out of sight are kept and not drawn; they are drawn as they come into sight.
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const tile = tiles.get(entry.target.dataset.patient)
    if (!tile) continue
    tile.seen = entry.isIntersecting
    if (tile.seen && tile.stale) draw(tile)
  }
}, { rootMargin: '100px' })

export const reading = (vitals, code) => (code === 'MAP' ? vitals.ART_MEAN ?? vitals.NIBP_MEAN : vitals[code]) ?? null

function made(patient) {
  const value = (name) => h('dd', { 'data-of': name }, '–')
  const pair = (name, title) => h('div', {}, h('dt', {}, title), value(name))
  const badge = h('span', { class: 'mark' })
  const bed = h('span', { class: 'bed' })
  const plot = h('div', { class: 'plot', 'aria-hidden': 'true' })
  const link = h('a', { class: 'tile', href: `#/bed/${encodeURIComponent(patient)}` },
    h('span', { class: 'top' }, bed, badge),
    h('dl', { class: 'values' }, pair('HR', 'HR'), pair('MAP', 'MAP'), pair('SPO2', 'SpO2'), pair('RR', 'RR'), pair('TEMP', 'T'), pair('news2', 'NEWS2')),
    plot)
  const item = h('li', { 'data-patient': patient }, link)
  sight.observe(item)
  const texts = Object.fromEntries([...link.querySelectorAll('dd')].map((node) => [node.dataset.of, node]))
  return { item, link, bed, badge, plot, texts, times: [], values: [], chart: null, seen: false, stale: true }
}

function drawn(tile) {
  if (tile.chart) return tile.chart
  const width = tile.plot.clientWidth || 116
  tile.chart = new uPlot({
    width, height: 34, pxAlign: 0, legend: { show: false }, cursor: { show: false }, padding: [2, 1, 2, 1],
    axes: [{ show: false }, { show: false }], scales: { x: { time: false } },
    series: [{}, { stroke: colour('--accent'), width: 1.4, spanGaps: false, points: { show: false } }],
  }, [[], []], tile.plot)
  return tile.chart
}

// Keep a reading whether it is painted or not: a pause loses nothing.
export function keep(frame, code) {
  for (const each of frame.patients) {
    let tile = tiles.get(each.patient)
    if (!tile) {
      tile = made(each.patient)
      tiles.set(each.patient, tile)
    }
    tile.latest = each
    if (tile.times.at(-1) >= frame.at_s) continue
    tile.times.push(frame.at_s)
    tile.values.push(reading(each.vitals, code))
    const old = tile.times.findIndex((at) => at >= frame.at_s - SPAN_S)
    if (old > 0) {
      tile.times.splice(0, old)
      tile.values.splice(0, old)
    }
  }
  const present = new Set(frame.patients.map((each) => each.patient))
  for (const [patient, tile] of tiles) {
    if (present.has(patient)) continue
    tile.chart?.destroy()
    sight.unobserve(tile.item)
    tile.item.remove()
    tiles.delete(patient)
  }
}

export function refill(trends) {
  for (const [patient, { t, v }] of Object.entries(trends.patients)) {
    const tile = tiles.get(patient)
    if (!tile) continue
    tile.times = t
    tile.values = v
  }
}

function draw(tile) {
  tile.stale = false
  drawn(tile).setData([tile.times, tile.values])
}

function paintOne(tile) {
  const { latest, texts, link, badge } = tile
  const top = latest.alerts.find((each) => each.kind !== 'technical') ?? latest.alerts[0]
  const priority = top?.priority ?? 'none'
  write(tile.bed, latest.bed || latest.patient)
  write(badge, top ? `${MARKS[priority]} ${latest.status === 'normal' ? 'technical' : latest.status}` : 'normal')
  mark(badge, 'data-priority', priority)
  mark(badge, 'data-flash', latest.alerts.some((each) => each.acknowledged_s === null && each.priority === priority) ? '' : null)
  mark(link, 'data-status', latest.status)
  for (const code of ['HR', 'MAP', 'SPO2', 'RR']) write(texts[code], whole(reading(latest.vitals, code)))
  write(texts.TEMP, whole(latest.vitals.TEMP, 1))
  write(texts.news2, whole(latest.news2))
  if (tile.seen) draw(tile)
  else tile.stale = true
}

export function paint() {
  const grid = byId('grid')
  const order = [...tiles.values()].sort((a, b) => (a.latest.bed || a.latest.patient).localeCompare(b.latest.bed || b.latest.patient, undefined, { numeric: true }))
  order.forEach((tile, place) => {
    if (grid.children[place] !== tile.item) grid.insertBefore(tile.item, grid.children[place] ?? null)
    paintOne(tile)
  })
  write(byId('count'), `${order.length}`)
}

// A new width or colour scheme: the charts are made anew with the next paint.
export function renew() {
  for (const tile of tiles.values()) {
    tile.chart?.destroy()
    tile.chart = null
    tile.stale = true
  }
}
