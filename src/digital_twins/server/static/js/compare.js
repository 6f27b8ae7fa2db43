// Treatment comparison: one row a treatment, with the change and its interval drawn and written out.
import { day, h, number, s, signed, table } from './dom.js'

const WIDTH = 360

const categories = {
  complete_response: ['Complete response', 'tag-good'], partial_response: ['Partial response', 'tag-good'],
  stable_disease: ['Stable disease', ''], progressive_disease: ['Progressive disease', 'tag-bad'],
}

function effect(scenario, index, [low, high]) {
  const x = (value) => ((value - low) / (high - low)) * (WIDTH - 20) + 10
  const change = scenario.volume_change_percent
  return s('svg', { viewBox: `0 0 ${WIDTH} 30`, preserveAspectRatio: 'none', 'aria-hidden': 'true', class: `c${index % 6}` },
    s('line', { class: 'zero', x1: x(0), x2: x(0), y1: 0, y2: 30, 'vector-effect': 'non-scaling-stroke' }),
    s('line', { class: 'whisker stroke', x1: x(change.low), x2: x(change.high), y1: 15, y2: 15, 'vector-effect': 'non-scaling-stroke' }),
    s('line', { class: 'stroke', x1: x(change.value), x2: x(change.value), y1: 6, y2: 24, 'stroke-width': 4, 'vector-effect': 'non-scaling-stroke' }))
}

export function compareTable(host, twin, chosen, onChoose) {
  const changes = twin.scenarios.map((scenario) => scenario.volume_change_percent)
  const low = Math.min(-100, ...changes.map((c) => c.low))
  const high = Math.max(0, ...changes.map((c) => c.high))
  const rows = twin.scenarios.map((scenario, index) => {
    const change = scenario.volume_change_percent
    const radio = h('input', { type: 'radio', name: 'treatment', value: scenario.key, checked: scenario.key === chosen, onchange: () => onChoose(scenario.key) })
    const [category, tone] = categories[scenario.response_category] ?? [scenario.response_category, '']
    const last = scenario.days[scenario.days.length - 1]
    return h('tr', {},
      h('th', { scope: 'row' }, h('label', {}, radio, scenario.label)),
      h('td', { class: 'effect' }, effect(scenario, index, [low, high])),
      h('td', { class: 'num' }, `${signed(change.value)} % [${signed(change.low)}, ${signed(change.high)}]`),
      h('td', { class: 'num' }, `${number(scenario.volume_cm3.at(-1))} cm³ [${number(scenario.low_cm3.at(-1))}, ${number(scenario.high_cm3.at(-1))}]`, h('span', { class: 'muted' }, ` day ${day(last)}`)),
      h('td', { class: 'num' }, `${number(scenario.nadir_volume_cm3)} cm³`, h('span', { class: 'muted' }, ` day ${day(scenario.nadir_day)}`)),
      h('td', {}, h('span', { class: `tag ${tone}` }, category), ' ', h('span', { class: 'muted' }, scenario.criterion)))
  })
  const percent = Math.round((changes[0]?.level ?? 0.95) * 100)
  const columns = [['Treatment shown'], [`Change, ${Math.round(low)} to ${signed(high)} %`], [`Volume change, ${percent} % interval`, 'num'], ['Volume at the end', 'num'], ['Smallest volume', 'num'], ['Predicted response']]
  host.replaceChildren(table(columns, rows, { class: 'compare' }))
}
