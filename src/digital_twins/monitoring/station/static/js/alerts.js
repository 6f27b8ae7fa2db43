// The list of alerts: keyed, so that the focus stays while it changes; every action has a key.
import { ask, byId, clock, h, mark, write } from './dom.js'

const rows = new Map()
let may = false
let announced = new Set()

export const allow = (value) => { may = value }

const say = (text) => write(byId('told'), text)

async function acknowledge(id) {
  try {
    const alert = await ask('POST', `/alerts/${id}/acknowledge`)
    say(`Acknowledged: ${alert.bed || alert.patient}, ${alert.text}.`)
  } catch (error) {
    say(error.message)
  }
}

async function shelve(alert) {
  try {
    await ask('POST', '/shelves', { patient: alert.patient, key: alert.key, for_s: 900 })
    say(`Shelved for 15 minutes: ${alert.bed || alert.patient}, ${alert.text}.`)
  } catch (error) {
    say(error.message)
  }
}

function made(alert) {
  const badge = h('span', { class: 'mark', 'data-priority': alert.priority }, `${alert.marks} ${alert.priority}`)
  const where = h('a', { href: `#/bed/${encodeURIComponent(alert.patient)}` }, alert.bed || alert.patient)
  const state = h('p', { class: 'muted' })
  const name = `${alert.bed || alert.patient}: ${alert.text}`
  const known = h('button', { type: 'button', onclick: () => acknowledge(alert.id), 'aria-label': `Acknowledge ${name}` }, 'Acknowledge')
  const quiet = h('button', { type: 'button', onclick: () => shelve(rows.get(alert.id).alert), 'aria-label': `Shelve 15 min: ${name}` }, 'Shelve 15 min')
  const item = h('li', { class: 'alert', tabindex: '-1', 'data-priority': alert.priority, 'data-id': alert.id },
    h('p', {}, badge, ' ', where, ' ', h('span', {}, alert.text)), state, h('div', { class: 'do' }, known, quiet))
  return { item, badge, state, known, quiet, alert }
}

function show(row, alert) {
  const known = alert.acknowledged_s !== null
  row.alert = alert
  mark(row.item, 'data-known', known ? 'yes' : 'no')
  mark(row.badge, 'data-flash', known ? null : '')
  const cause = alert.active ? 'cause holds' : 'cause has ended'
  const who = known ? `acknowledged by ${alert.acknowledged_by} at ${clock(alert.acknowledged_s)}` : 'NOT acknowledged'
  write(row.state, `since ${clock(alert.raised_s)} UTC, ${cause}, ${who}`)
  row.known.hidden = known || !may
  row.quiet.hidden = !may || alert.priority === 'high' || alert.kind === 'event'
}

export function paintAlerts(patients) {
  const open = patients.flatMap((each) => each.alerts)
  const rank = { high: 0, medium: 1, low: 2 }
  open.sort((a, b) => (a.acknowledged_s !== null) - (b.acknowledged_s !== null) || rank[a.priority] - rank[b.priority] || b.raised_s - a.raised_s || a.id - b.id)
  const list = byId('alerts')
  const held = list.contains(document.activeElement) ? document.activeElement : null
  const ids = new Set(open.map((each) => each.id))
  for (const [id, row] of rows) {
    if (ids.has(id)) continue
    const next = row.item.contains(document.activeElement) ? row.item.nextElementSibling ?? row.item.previousElementSibling : null
    row.item.remove()
    rows.delete(id)
    next?.focus()
  }
  open.forEach((alert, place) => {
    let row = rows.get(alert.id)
    if (!row) {
      row = made(alert)
      rows.set(alert.id, row)
    }
    show(row, alert)
    if (list.children[place] !== row.item) list.insertBefore(row.item, list.children[place] ?? null)
  })
  if (held?.isConnected && document.activeElement !== held) (held.hidden ? held.closest('li') : held).focus()
  const waiting = open.filter((each) => each.acknowledged_s === null)
  write(byId('open'), `${open.length} open, ${waiting.length} not acknowledged`)
  const urgent = waiting.filter((each) => each.priority === 'high' && !announced.has(each.id))
  if (urgent.length) write(byId('urgent'), urgent.slice(0, 3).map((each) => `High priority: ${each.bed || each.patient}, ${each.text}.`).join(' '))
  announced = new Set(waiting.map((each) => each.id))
}

const current = () => document.activeElement?.closest?.('.alert')

export function alertKey(key) {
  const list = byId('alerts')
  const item = current()
  if (key === 'j' || key === 'k') {
    const next = item ? (key === 'j' ? item.nextElementSibling : item.previousElementSibling) : list.firstElementChild
    next?.focus()
    next?.scrollIntoView({ block: 'nearest' })
    return true
  }
  if (!item || !may) return false
  const row = rows.get(Number(item.dataset.id))
  if (key === 'a' && !row.known.hidden) { item.focus(); acknowledge(row.alert.id) }
  else if (key === 's' && !row.quiet.hidden) shelve(row.alert)
  else return false
  return true
}
