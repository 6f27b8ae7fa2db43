// One bed: waveforms, trends with forecasts and their intervals, the twin's state, and what an action would do.
import { ask, byId, colour, h, whole, write } from './dom.js'
import { reading } from './tiles.js'
import { openWaves } from './waves.js'

const SIGNS = [['HR', 'Heart rate, /min'], ['MAP', 'Mean arterial pressure, mmHg'], ['SPO2', 'SpO2, %'], ['RR', 'Respiratory rate, /min'], ['TEMP', 'Temperature, °C']]
const EVERY_MS = 3000
const DASHED = [5, 3]
let view = null

const axes = () => [0, 1].map((n) => ({ stroke: colour('--ink'), grid: { stroke: colour('--line') }, ticks: { stroke: colour('--line') }, size: n ? 46 : 34, font: '11px system-ui' }))

function chart(parent, title, series, bands, data) {
  const box = h('div')
  parent.append(h('figure', {}, h('figcaption', {}, title), box))
  const options = { width: box.clientWidth || 280, height: 170, legend: { show: false }, scales: { x: { time: false } }, axes: axes(), series: [{ label: 'min' }, ...series], bands, cursor: { y: false } }
  return new uPlot(options, data, box)
}

function interval(label, stroke, dash) {
  const edge = { stroke: 'transparent', points: { show: false } }
  return [{ ...edge, label: `${label} high` }, { ...edge, label: `${label} low` }, { label, stroke, width: 2, dash, points: { show: false } }]
}

function merged(bed, code) {
  const { trend, forecast } = bed
  const now = bed.at_s
  const from = forecast.from_s ?? now
  const ahead = forecast.minutes.map((minute) => (from - now) / 60 + minute)
  const past = trend.t.map((at) => (at - now) / 60)
  const blank = (n) => Array(n).fill(null)
  const later = (name) => [...blank(past.length), ...forecast[code][name]]
  return [[...past, ...ahead], [...trend[code], ...blank(ahead.length)], later('high'), later('low'), later('mean')]
}

function charts(part) {
  return SIGNS.map(([code, title]) => {
    const measured = { label: 'measured', stroke: colour('--ink'), width: 1.6, points: { show: false } }
    return chart(part, title, [measured, ...interval('forecast', colour('--accent'), DASHED)], [{ series: [2, 3], fill: colour('--band') }], [[], [], [], [], []])
  })
}

function whatIf(patient) {
  const field = (name, title, value, low, high, step) => h('label', {}, title, h('input', { name, type: 'number', value, min: low, max: high, step, required: true }))
  const told = h('p', { role: 'status' })
  const plots = h('div', { class: 'charts' })
  const form = h('form', {}, field('fluid_ml', 'Fluid, ml', 500, 0, 3000, 50), field('fluid_minutes', 'over, min', 15, 1, 240, 1),
    field('vasopressor', 'Vascular tone, factor', 1, 0.5, 3, 0.1), field('oxygen_fraction', 'Inspired oxygen, fraction', 0.21, 0.21, 1, 0.01), h('button', { type: 'submit' }, 'Simulate 30 min'))
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    const action = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, Number(value)]))
    try {
      const found = await ask('POST', `/patients/${encodeURIComponent(patient)}/what-if`, action)
      plots.replaceChildren()
      for (const [code, title] of SIGNS.slice(0, 4)) {
        const one = (name) => [found[name][code].high, found[name][code].low, found[name][code].median]
        chart(plots, `${title}: solid without, dashed with`,
          [...interval('without', colour('--accent')), ...interval('with', colour('--other'), DASHED)],
          [{ series: [1, 2], fill: colour('--band') }, { series: [4, 5], fill: colour('--other-band') }],
          [found.with.minutes, ...one('without'), ...one('with')])
      }
      const last = (name) => whole(found[name].MAP.median.at(-1))
      write(told, `In 30 minutes mean pressure ${last('without')} mmHg without, ${last('with')} mmHg with the action. Bands: 5 % to 95 %. ${found.with.note}`)
    } catch (error) {
      write(told, error.message)
    }
  })
  return h('div', { class: 'card' }, h('h3', {}, 'What if'), form, told, plots)
}

const words = (name) => name.replace(/_mmhg$/, ', mmHg').replace(/_per_min$/, ', /min').replace(/_ml$/, ', ml').replace(/_cel$/, ', °C').replaceAll('_', ' ')

function risk(found) {
  if (!found) return []
  const because = found.reasons.map((each) => `${each.input} ${each.log_odds > 0 ? 'raises' : 'lowers'} it (log-odds ${each.log_odds.toFixed(2)})`)
  return [h('p', {}, `Learned risk of in-hospital death: ${(found.death * 100).toFixed(0)} %, asked at hour ${found.hour}. `, because.join('; ') + '.'),
    h('p', { class: 'muted' }, 'From hourly charted vital signs, at any later time of the stay. Not tried on this unit.')]
}

function paintBed(bed) {
  if (!view) return
  write(view.title, `${bed.bed || 'No bed'} · ${bed.patient} · ${bed.status.toUpperCase()}`)
  write(view.numbers, SIGNS.map(([code, title]) => `${title.split(',')[0]} ${whole(reading(bed.vitals, code), code === 'TEMP' ? 1 : 0)}`).join('   ') + `   NEWS2 ${whole(bed.news2)}`)
  view.risk.replaceChildren(...risk(bed.risk))
  view.charts.forEach((each, n) => each.setData(merged(bed, SIGNS[n][0])))
  view.twin.replaceChildren(...bed.twin.map((each) => h('tr', {}, h('th', { scope: 'row' }, words(each.name)), h('td', {}, each.mean.toPrecision(4)), h('td', {}, `± ${each.sd.toPrecision(2)}`))))
}

export function openBed(patient, paused) {
  closeBed()
  const part = byId('bed')
  const title = h('h2', { id: 'bed-title', tabindex: '-1' }, patient)
  const numbers = h('p')
  const plots = h('div', { class: 'charts' })
  const waves = h('div', { class: 'card', id: 'waves' }, h('h3', {}, 'Waveforms'))
  const twin = h('tbody')
  const chance = h('div', { class: 'risk' })
  part.replaceChildren(h('div', {}, h('a', { href: '#/' }, 'All beds'), title, numbers, chance), waves,
    h('div', { class: 'card' }, h('p', { class: 'muted key' }, 'Minutes from now. Solid: measured. Dashed: forecast of the trend filter, with its 95 % interval as a band.'), plots),
    h('div', { class: 'card' }, h('h3', {}, 'Twin: model state, mean and standard deviation'), h('table', {}, twin)), whatIf(patient))
  part.hidden = false
  byId('grid-part').hidden = true
  view = { title, numbers, twin, risk: chance, charts: charts(plots), patient, endWaves: openWaves(waves, patient, paused) }
  title.focus()
  const mine = view
  const refresh = async () => {
    if (view !== mine) return
    if (!paused()) await ask('GET', `/patients/${encodeURIComponent(patient)}`).then(paintBed, (error) => write(numbers, error.message))
    if (view === mine) mine.timer = setTimeout(refresh, EVERY_MS)
  }
  refresh()
}

export function closeBed() {
  if (!view) return
  clearTimeout(view.timer)
  view.endWaves()
  view.charts.forEach((each) => each.destroy())
  view = null
  byId('bed').hidden = true
  byId('bed').replaceChildren()
  byId('grid-part').hidden = false
}
