// A patient's twin page: wires the viewer, the charts and the tables to one twin.
import { volumeChart } from './chart.js'
import { compareTable } from './compare.js'
import { byId, date, day, getJson, h, moment, number, problemLines, table, unit } from './dom.js'
import { jobWords, onJobs } from './events.js'
import { signatureDialog } from './sign.js'
import { themeButton } from './theme.js'
import { TwinViewer } from './viewer.js'

const key = decodeURIComponent(location.pathname.split('/').pop())
let shownVersion = null

function facts(host, pairs) {
  host.replaceChildren(...pairs.filter(([, value]) => value).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))))
}

function banner(patient, twin) {
  byId('name').textContent = patient.name ?? 'No record yet'
  document.title = `${patient.name ?? patient.patient_id} · Digital Twins`
  const markers = Object.entries(patient.biomarkers).map(([name, value]) => `${name} ${value}`).join(', ')
  facts(byId('facts'), [['ID', patient.patient_id], ['Born', patient.birth_date && date(patient.birth_date)], ['Sex', patient.sex], ['Diagnosis', patient.diagnosis], ['Stage', patient.stage], ['Markers', markers]])
  const labels = [...new Set([...patient.labels, ...(twin?.labels ?? [])])]
  byId('labels').replaceChildren(...labels.map((label) => h('li', { class: 'tag tag-warn' }, label)))
}

function jobCard(job) {
  const active = job && ['queued', 'running', 'failed'].includes(job.state)
  byId('job').hidden = !active
  if (!active) return
  byId('job-text').textContent = [jobWords(job)[0], job.text].filter(Boolean).join(' · ')
  byId('job-bar').value = job.fraction
  byId('job-bar').hidden = job.state === 'failed'
  byId('job-error').replaceChildren(...problemLines(job.error))
}

function origin(source) {
  const [kind, ...words] = source.split(': ')
  return words.length ? h('details', {}, h('summary', {}, kind), words.join(': ')) : source
}

function remarks(twin) {
  const assumed = twin.scenarios.flatMap((x) => x.assumptions.map((text) => `${x.label}: ${text}`))
  const items = [...twin.notes, ...assumed].map((text) => h('li', {}, text))
  byId('remarks').hidden = items.length === 0
  byId('remarks-list').replaceChildren(...items)
}

function parameters(twin) {
  const rows = twin.parameters.map((p) => {
    const interval = p.fixed || p.low === null ? h('span', { class: 'muted' }, 'fixed') : `[${number(p.low)}, ${number(p.high)}]`
    return h('tr', {}, h('th', { scope: 'row' }, p.label), h('td', { class: 'num' }, number(p.value)), h('td', { class: 'num' }, interval), h('td', { class: 'unit' }, unit(p.unit)), h('td', { class: 'muted' }, origin(p.source)))
  })
  byId('parameters').replaceChildren(table([['Parameter'], ['Value', 'num'], ['95 % interval', 'num'], ['Unit'], ['Source']], rows))
  byId('model').textContent = twin.model
}

function documents(twin) {
  byId('documents').replaceChildren(...twin.documents.map((d) => h('li', {},
    h('a', d.inline ? { href: d.href, target: '_blank', rel: 'noopener' } : { href: d.href, download: `${d.kind.toLowerCase().replace(' ', '-')}-${d.id}.dcm` }, d.title, d.inline ? h('span', { class: 'visually-hidden' }, ' (opens in a new tab)') : null),
    h('span', { class: 'muted' }, d.kind))))
  byId('versions').replaceChildren(...twin.versions.map((v) => h('li', {}, `Version ${v.version} · ${moment(v.created_utc)} · ${v.scans} scan${v.scans === 1 ? '' : 's'} · ${v.reason}`)))
  const p = twin.provenance
  facts(byId('provenance'), [['Software', p.software_version], ['Seed', String(p.seed)], ['Inputs', p.input_hash.slice(0, 16)], ['Baseline', moment(twin.baseline_utc)]])
}

function volumeTable(twin) {
  const rows = twin.scenarios.flatMap((x) => x.mask_days.map((t) => {
    const i = x.days.indexOf(t)
    return h('tr', {}, h('th', { scope: 'row' }, x.label), h('td', { class: 'num' }, day(t)), h('td', { class: 'num' }, number(x.volume_cm3[i])), h('td', { class: 'num' }, `${number(x.low_cm3[i])} to ${number(x.high_cm3[i])}`))
  }))
  const seen = twin.observed.map((p) => h('tr', {}, h('th', { scope: 'row' }, p.simulated ? 'Observed, SIMULATED' : 'Observed'), h('td', { class: 'num' }, day(p.day)), h('td', { class: 'num' }, number(p.volume_cm3)), h('td', { class: 'num' }, '–')))
  byId('volume-table').replaceChildren(table([['Course'], ['Day', 'num'], ['Volume, cm³', 'num'], ['Interval, cm³', 'num']], [...seen, ...rows]))
}

function stale(twin) {
  const words = { withdrawn: 'Images behind this twin were withdrawn', merged: 'Patient merged' }
  byId('stale').hidden = !twin.stale?.length
  byId('stale').replaceChildren(...(twin.stale ?? []).map((mark) => h('p', {},
    h('strong', {}, `STALE. ${words[mark.kind]}: `), mark.reason, ` (${moment(mark.since_utc)}). Do not rely on this twin or its documents.`)))
}

class Timeline {
  constructor(twin, viewer, chart) {
    Object.assign(this, { twin, viewer, chart, slider: byId('day'), timer: null })
    this.slider.addEventListener('input', () => this.show(Number(this.slider.value)))
    byId('play').addEventListener('click', () => this.toggle())
  }

  choose(scenarioKey) {
    this.scenario = this.twin.scenarios.find((x) => x.key === scenarioKey)
    this.slider.max = this.scenario.mask_days.length - 1
    this.chart.select(scenarioKey)
    this.viewer.scenario(scenarioKey)
    const days = this.scenario.mask_days
    this.index ??= Math.max(0, days.findIndex((at) => at >= this.twin.current_day))
    this.show(Math.min(this.index, days.length - 1))
  }

  show(index) {
    const x = this.scenario
    const at = x.mask_days[index]
    const i = x.days.indexOf(at)
    const text = `Day ${day(at)}: ${number(x.volume_cm3[i])} cm³ [${number(x.low_cm3[i])}, ${number(x.high_cm3[i])}]`
    this.index = index
    this.slider.value = index
    this.slider.setAttribute('aria-valuetext', text)
    byId('day-text').textContent = text
    const word = at > this.twin.current_day ? 'PREDICTED' : 'MODELLED'
    byId('stage-label').textContent = `${word} day ${day(at)}, NOT ACQUIRED · ${x.label}`
    this.viewer.day(index)
    this.chart.moveTo(at)
  }

  toggle() {
    const playing = this.timer !== null
    clearInterval(this.timer)
    const pace = matchMedia('(prefers-reduced-motion: reduce)').matches ? 1600 : 700
    this.timer = playing ? null : setInterval(() => this.show((Number(this.slider.value) + 1) % this.scenario.mask_days.length), pace)
    byId('play').textContent = playing ? 'Play' : 'Pause'
    byId('play').setAttribute('aria-pressed', String(!playing))
  }
}

async function showTwin(patient) {
  const twin = await getJson(`/api/twins/${encodeURIComponent(patient.twin_id)}`)
  shownVersion = twin.version
  banner(patient, twin)
  stale(twin)
  byId('twin').hidden = false
  const v = twin.current_volume
  byId('volume-now').textContent = `day ${day(twin.current_day)}: ${number(v.value)} cm³ [${number(v.low)}, ${number(v.high)}]`
  parameters(twin)
  documents(twin)
  if (patient.may_sign) signatureDialog(twin)
  volumeTable(twin)
  remarks(twin)
  const horizon = Math.max(...twin.scenarios.map((x) => x.days.at(-1)))
  byId('compare-note').textContent = `from the last observation on day ${day(twin.current_day)} to day ${day(horizon)}; model version ${twin.version}`
  const chart = volumeChart(byId('volume-chart'), twin)
  const viewer = new TwinViewer(twin)
  const first = (twin.scenarios.find((x) => x.planned) ?? twin.scenarios[0]).key
  await viewer.start()
  const timeline = new Timeline(twin, viewer, chart)
  compareTable(byId('compare'), twin, first, (chosen) => timeline.choose(chosen))
  timeline.choose(first)
  await viewer.busy
  byId('status').textContent = `Twin version ${twin.version} of ${moment(twin.created_utc)}`
  document.documentElement.dataset.ready = 'twin'
}

async function load() {
  try {
    const patient = await getJson(`/api/patients/${encodeURIComponent(key)}`)
    banner(patient, null)
    jobCard(patient.latest_job)
    if (!patient.twin_id) {
      byId('status').textContent = patient.waiting_for ? `No twin yet: waiting for ${patient.waiting_for}.` : 'No twin yet.'
      document.documentElement.dataset.ready = 'patient'
    } else if (shownVersion === null) {
      byId('status').textContent = 'Loading the twin…'
      await showTwin(patient)
    }
    return patient
  } catch (error) {
    byId('status').replaceChildren(error.message, ...problemLines(error.problem))
    document.documentElement.dataset.ready = 'error'
    return null
  }
}

themeButton(byId('theme'))
await load()
onJobs(async (job) => {
  if (job.patient !== key) return
  jobCard(job)
  if (job.state !== 'succeeded') return
  if (shownVersion === null) await load()
  else if (job.result?.version !== undefined && job.result.version !== shownVersion) {
    byId('status').replaceChildren(`Version ${job.result.version} is ready. `, h('a', { href: location.href }, 'Show it'))
  }
})
