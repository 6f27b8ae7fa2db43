// Beds and devices: who lies where and which device speaks of whom, from now on.
import { ask, byId, h, write } from './dom.js'

const EVERY_MS = 3000
let view = null

const tell = (kind, subject, target) => ask('POST', '/associations', { kind, subject, target })

// A patient lies in one bed: the old one is empty first. Readings in between are quarantined, given to nobody.
async function move(patient, bed) {
  const known = await ask('GET', '/associations')
  const old = known.beds.find((each) => each.patient === patient)
  if (old && old.bed === bed) return
  if (old) await tell('bed', old.bed, null)
  if (bed) await tell('bed', bed, patient)
}

function form(title, fields, actions, told) {
  const node = h('form', { class: 'card' }, h('h3', {}, title), h('div', { class: 'fields' }, ...fields, ...actions.map(([name, value]) => h('button', { type: 'submit', name: 'do', value }, name))))
  node.addEventListener('submit', async (event) => {
    event.preventDefault()
    const given = Object.fromEntries([...new FormData(node)].map(([name, value]) => [name, value.trim()]))
    try {
      write(told, await view.act(event.submitter.value, given))
    } catch (error) {
      write(told, error.message)
    }
    await refresh()
  })
  return node
}

const field = (title, name, list, required) => h('label', {}, title, h('input', { name, list, required, maxlength: 64, autocomplete: 'off' }))

async function act(what, { patient, bed, device, at, of }) {
  if (what === 'move' && !bed) throw new Error('Name the bed.')
  if (what === 'move') await move(patient, bed)
  if (what === 'leave') await move(patient, null)
  if (what === 'stand') {
    if (Boolean(at) === Boolean(of)) throw new Error('Name either a bed or a patient: a monitor stands at a bed, a telemetry unit is a patient’s.')
    await tell(at ? 'device' : 'carried', device, at || of)
  }
  if (what === 'away') await tell('device', device, null)
  return what === 'move' ? `${patient} lies in ${bed} from now on.` : what === 'leave' ? `${patient} lies in no bed from now on.`
    : what === 'stand' ? `${device} speaks of ${at ? `who lies in ${at}` : of} from now on.` : `${device} speaks of nobody from now on.`
}

const inOrder = (rows, name) => rows.sort((one, other) => one[name].localeCompare(other[name], 'en', { numeric: true }))

function paint(known) {
  inOrder(known.devices, 'device')
  inOrder(known.beds, 'bed')
  const empty = (text) => text || '–'
  const cells = known.devices.map(({ device, bed, patient }) => h('tr', {}, h('th', { scope: 'row' }, device), h('td', {}, empty(bed)), h('td', {}, patient || 'nobody: readings wait')))
  view.devices.replaceChildren(...cells)
  view.beds.replaceChildren(...known.beds.map(({ bed, patient }) => h('tr', {}, h('th', { scope: 'row' }, bed), h('td', {}, patient))))
  for (const [id, values] of [['known-beds', known.beds.map((each) => each.bed).concat(known.devices.map((each) => each.bed))], ['known-patients', known.beds.map((each) => each.patient)], ['known-devices', known.devices.map((each) => each.device)]]) {
    byId(id).replaceChildren(...[...new Set(values)].filter(Boolean).sort().map((value) => h('option', { value })))
  }
}

async function refresh() {
  if (!view) return
  const mine = view
  clearTimeout(mine.timer)
  const known = await ask('GET', '/associations').catch((error) => { write(mine.told, error.message); return null })
  if (view !== mine) return
  if (known) paint(known)
  mine.timer = setTimeout(refresh, EVERY_MS)
}

const table = (title, heads, body) => h('div', { class: 'card scroll', tabindex: '0', role: 'region', 'aria-label': title }, h('table', {}, h('caption', {}, title), h('thead', {}, h('tr', {}, ...heads.map((name) => h('th', { scope: 'col' }, name)))), body))

export function openPlaces(allowed) {
  closePlaces()
  const part = byId('places')
  const told = h('p', { role: 'status', class: 'told' })
  const title = h('h2', { id: 'places-title', tabindex: '-1' }, 'Beds and devices')
  view = { act, told, devices: h('tbody'), beds: h('tbody'), timer: 0 }
  const forms = allowed ? [
    form('Patient', [field('Patient', 'patient', 'known-patients', true), field('Bed', 'bed', 'known-beds', false)], [['Lies in this bed', 'move'], ['Has left', 'leave']], told),
    form('Device', [field('Device', 'device', 'known-devices', true), field('Stands at bed', 'at', 'known-beds', false), field('or is the patient’s', 'of', 'known-patients', false)], [['From now on', 'stand'], ['Speaks of nobody', 'away']], told)
  ] : [h('p', {}, 'Your role may not say who lies where.')]
  part.replaceChildren(h('div', {}, h('a', { href: '#/' }, 'All beds'), title, h('p', { class: 'muted' }, 'Devices know no patients. Readings of a device without a patient wait until somebody says whose they are.')),
    ...forms, told, table('Devices', ['Device', 'Bed', 'Patient'], view.devices), table('Taken beds', ['Bed', 'Patient'], view.beds),
    ...['known-beds', 'known-patients', 'known-devices'].map((id) => h('datalist', { id })))
  part.hidden = false
  byId('grid-part').hidden = true
  title.focus()
  refresh()
}

export function closePlaces() {
  if (!view) return
  clearTimeout(view.timer)
  view = null
  byId('places').hidden = true
  byId('places').replaceChildren()
  byId('grid-part').hidden = false
}
