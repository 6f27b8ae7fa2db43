// Volume over time: median lines with interval ribbons, measured points, and a cursor at the shown day.
import { day, h, number, s } from './dom.js'

const WIDTH = 640
const HEIGHT = 300
const MARGIN = { left: 46, right: 14, top: 22, bottom: 36 }
const DASHES = ['', '7 4', '2 3', '10 3 2 3', '5 2', '1 2']

export const dash = (index) => DASHES[index % DASHES.length]

function ticks(low, high, count) {
  const raw = (high - low) / count || 1
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw)
  const found = []
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(10)))
  return found
}

function scales(twin) {
  const days = [...twin.observed.map((p) => p.day), ...twin.scenarios.flatMap((x) => x.days)]
  const volumes = [...twin.observed.map((p) => p.volume_cm3), ...twin.scenarios.flatMap((x) => x.high_cm3)]
  const first = Math.min(0, ...days)
  const last = Math.max(1, ...days)
  const top = Math.max(1e-9, ...volumes) * 1.06
  const x = (value) => MARGIN.left + ((value - first) / (last - first)) * (WIDTH - MARGIN.left - MARGIN.right)
  const y = (value) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom)
  return { x, y, first, last, top }
}

function frame({ x, y, first, last, top }, now) {
  const parts = []
  if (now > first) {
    parts.push(s('rect', { class: 'past', x: x(first), y: MARGIN.top, width: x(now) - x(first), height: y(0) - MARGIN.top }))
    parts.push(s('text', { x: x(now) - 5, y: MARGIN.top + 12, 'text-anchor': 'end' }, 'observed'))
    parts.push(s('text', { x: x(now) + 5, y: MARGIN.top + 12 }, 'PREDICTED'))
  }
  for (const value of ticks(0, top, 5)) {
    parts.push(s('line', { class: 'grid', x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(value), y2: y(value) }))
    parts.push(s('text', { x: MARGIN.left - 7, y: y(value) + 4, 'text-anchor': 'end' }, number(value)))
  }
  for (const value of ticks(first, last, 7)) parts.push(s('text', { x: x(value), y: HEIGHT - MARGIN.bottom + 16, 'text-anchor': 'middle' }, day(value)))
  parts.push(s('line', { class: 'axis', x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(0), y2: y(0) }))
  parts.push(s('text', { x: WIDTH - MARGIN.right, y: HEIGHT - 4, 'text-anchor': 'end' }, 'days since baseline'))
  parts.push(s('text', { x: 6, y: 13 }, 'cm³'))
  return parts
}

function curve(scenario, index, selected, { x, y }) {
  const at = (values) => scenario.days.map((t, i) => `${x(t).toFixed(1)},${y(values[i]).toFixed(1)}`)
  const ribbon = [...at(scenario.high_cm3), ...at(scenario.low_cm3).reverse()].join(' ')
  return s('g', { class: `c${index % 6} ${selected ? '' : 'dim'}` },
    s('polygon', { class: 'ribbon fill', points: ribbon }),
    s('polyline', { class: 'line stroke', points: at(scenario.volume_cm3).join(' '), 'stroke-dasharray': dash(index) }))
}

function point(observed, { x, y }) {
  const [cx, cy] = [x(observed.day), y(observed.volume_cm3)]
  const style = observed.simulated
    ? { fill: 'var(--surface)', stroke: 'var(--measured)', 'stroke-width': 2 }
    : { fill: 'var(--measured)', stroke: 'var(--surface)', 'stroke-width': 1.5 }
  return s('circle', { cx, cy, r: 5, ...style })
}

function legend(twin) {
  const items = twin.scenarios.map((scenario, index) => h('li', { class: `c${index % 6}` },
    s('svg', { viewBox: '0 0 26 12', 'aria-hidden': 'true' }, s('line', { class: 'stroke', x1: 0, x2: 26, y1: 6, y2: 6, 'stroke-width': 2.6, 'stroke-dasharray': dash(index) })), scenario.label))
  const kinds = [['measured', false], ['simulated follow-up', true]].filter(([, simulated]) => twin.observed.some((p) => p.simulated === simulated))
  for (const [text, simulated] of kinds) {
    items.push(h('li', {}, s('svg', { viewBox: '0 0 26 12', 'aria-hidden': 'true' }, s('circle', { cx: 13, cy: 6, r: 4.5, fill: simulated ? 'none' : 'var(--measured)', stroke: 'var(--measured)', 'stroke-width': 2 })), text))
  }
  return h('ul', { class: 'legend', 'aria-label': 'Legend' }, items)
}

export function volumeChart(host, twin) {
  const scale = scales(twin)
  const layer = s('g', {})
  const cursor = s('line', { class: 'cursor', y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom })
  const percent = Math.round((twin.scenarios[0]?.interval ?? 0.95) * 100)
  const name = `Tumour volume in cubic centimetres over days since baseline: ${twin.observed.length} observed points, ${twin.scenarios.length} predicted courses with ${percent} percent intervals. The values follow as a table.`
  const image = s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': name },
    frame(scale, twin.current_day), layer, cursor, twin.observed.map((p) => point(p, scale)),
    s('text', { x: WIDTH - MARGIN.right, y: 13, 'text-anchor': 'end' }, `Model: median and ${percent} % interval`))
  host.replaceChildren(image, legend(twin))
  return {
    select(key) {
      const order = twin.scenarios.map((scenario, index) => [scenario, index]).sort((a, b) => (a[0].key === key) - (b[0].key === key))
      layer.replaceChildren(...order.map(([scenario, index]) => curve(scenario, index, scenario.key === key, scale)))
    },
    moveTo(value) {
      cursor.setAttribute('x1', scale.x(value))
      cursor.setAttribute('x2', scale.x(value))
    },
  }
}
