// The patient list: one table, a filter, live state.
import { byId, date, getJson, h } from './dom.js'
import { jobWords, onJobs } from './events.js'
import { themeButton } from './theme.js'

let patients = []

function row(patient) {
  const [word, kind] = jobWords(patient.latest_job, patient.waiting_for, patient.twin_count)
  const cells = [patient.patient_id, patient.sex ?? '–', date(patient.birth_date), patient.diagnosis ?? '–', patient.stage ?? '–']
  const labels = patient.labels.map((label) => h('span', { class: 'tag tag-warn' }, label))
  return h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: `/patients/${patient.key}` }, patient.name ?? 'No record yet'), ' ', labels),
    cells.map((text) => h('td', {}, text)),
    h('td', { class: 'num' }, String(patient.twin_count)),
    h('td', {}, h('span', { class: `tag ${kind}` }, word)))
}

function render() {
  const wanted = byId('filter').value.trim().toLowerCase()
  const shown = patients.filter((p) => [p.name, p.patient_id, p.diagnosis].some((text) => text?.toLowerCase().includes(wanted)) || !wanted)
  byId('rows').replaceChildren(...shown.map(row))
  byId('list').hidden = patients.length === 0
  byId('empty').hidden = patients.length > 0
  byId('status').textContent = patients.length ? `${shown.length} of ${patients.length} patients` : 'Nothing has arrived at this node.'
}

async function load() {
  try {
    patients = await getJson('/api/patients')
    render()
  } catch (error) {
    byId('status').textContent = error.message
  }
}

let pending = null
themeButton(byId('theme'))
byId('filter').addEventListener('input', render)
load()
onJobs(() => {
  clearTimeout(pending)
  pending = setTimeout(load, 200)
})
