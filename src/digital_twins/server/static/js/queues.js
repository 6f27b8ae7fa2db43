// Queues, dead letters, peers and priors: tables that renew themselves, and the operator's buttons.
import { byId, getJson, h, moment, number, table } from './dom.js'
import { themeButton } from './theme.js'

const RENEW_MS = 3000
let busy = false

async function post(url) {
  const response = await fetch(url, { method: 'POST', headers: { accept: 'application/json' } })
  const body = await response.json().catch(() => null)
  if (!response.ok) throw new Error(body?.what ? `${body.what} ${body.why}` : `The node answered ${response.status}.`)
  return body
}

export function age(seconds) {
  if (seconds < 1) return '–'
  if (seconds < 120) return `${seconds.toFixed(0)} s`
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

function button(word, label, url, done) {
  return h('button', { type: 'button', 'aria-label': label, onclick: () => act(url, done) }, word)
}

async function act(url, done) {
  busy = true
  const focused = document.activeElement?.getAttribute('aria-label')
  try {
    await post(url)
    await load()
    byId('status').textContent = done
  } catch (error) {
    byId('status').textContent = error.message
  }
  busy = false
  if (focused) document.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus()
}

function queueRow(q) {
  const at = encodeURIComponent(q.destination)
  const [word, kind] = q.paused ? ['Paused', 'tag-warn'] : q.dead ? ['Dead letters', 'tag-bad'] : q.error ? ['Not reached', 'tag-bad'] : q.waiting ? ['Sending', ''] : ['Empty', 'tag-good']
  const wait = q.error && q.next_attempt_s ? ` Next attempt in ${age(q.next_attempt_s)}.` : ''
  const flip = q.paused
    ? button('Resume', `Resume ${q.destination}`, `/api/queues/${at}/resume`, `${q.destination} goes on.`)
    : button('Pause', `Pause ${q.destination}`, `/api/queues/${at}/pause`, `${q.destination} is paused.`)
  const replay = q.dead ? button('Replay', `Replay dead letters of ${q.destination}`, `/api/queues/${at}/replay`, `Dead letters of ${q.destination} are sent again.`) : null
  return h('tr', {},
    h('th', { scope: 'row' }, q.destination),
    h('td', {}, h('span', { class: `tag ${kind}` }, word)),
    [q.waiting, q.dead, q.sent, q.failed].map((n) => h('td', { class: 'num' }, String(n))),
    h('td', { class: 'num' }, age(q.oldest_s)),
    h('td', {}, q.error ? q.error + wait : '–'),
    h('td', { class: 'actions' }, flip, ' ', replay))
}

function peerRow(p) {
  const echo = p.echo_ok === null ? ['Not asked', ''] : p.echo_ok ? [`Answers, ${number(p.echo_ms)} ms`, 'tag-good'] : ['No answer', 'tag-bad']
  const callable = p.port > 0
  const place = p.web_url || (callable ? `${p.host}:${p.port}${p.tls ? ' TLS' : ''}` : 'calls only')
  return h('tr', {},
    h('th', { scope: 'row' }, p.ae_title),
    h('td', {}, place),
    h('td', {}, moment(p.last_association_utc)),
    [p.associations, p.refused].map((n) => h('td', { class: 'num' }, String(n))),
    h('td', {}, h('span', { class: `tag ${echo[1]}` }, echo[0]), p.echo_error ? ` ${p.echo_error}` : ''),
    h('td', {}, moment(p.echo_utc)),
    h('td', { class: 'actions' }, callable ? button('Echo', `Echo ${p.ae_title}`, `/api/peers/${encodeURIComponent(p.ae_title)}/echo`, `${p.ae_title} was asked.`) : null))
}

function priorRow(f) {
  const kind = { done: 'tag-good', dead: 'tag-bad' }[f.state] ?? ''
  const again = f.state === 'dead' ? button('Replay', `Replay order ${f.id} of ${f.source}`, `/api/prefetch/${encodeURIComponent(f.source)}/replay`, 'Tried again.') : null
  return h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: `/patients/${f.patient_key}` }, `Order ${f.id}`)),
    h('td', {}, f.source),
    h('td', {}, h('span', { class: `tag ${kind}` }, f.state)),
    [f.found, f.fetched, f.attempts].map((n) => h('td', { class: 'num' }, String(n))),
    h('td', {}, moment(new Date(f.queued * 1000).toISOString())),
    h('td', {}, f.error || '–', ' ', again))
}

function letterRow([destination, x]) {
  return h('tr', {}, h('th', { scope: 'row' }, destination), h('td', { class: 'mono' }, x.sop_uid), h('td', { class: 'num' }, String(x.attempts)), h('td', {}, x.error))
}

const none = (text) => h('p', { class: 'muted pad' }, text)

async function load() {
  const [queues, peers, priors] = await Promise.all(['/api/queues', '/api/peers', '/api/prefetch'].map(getJson))
  const dead = await Promise.all(queues.filter((q) => q.dead).map((q) => getJson(`/api/queues/${encodeURIComponent(q.destination)}`)))
  const letters = dead.flatMap((q) => q.dead_letters.map((x) => [q.destination, x]))
  const numbers = [['Waiting', 'num'], ['Dead', 'num'], ['Sent', 'num'], ['Failed attempts', 'num']]
  byId('queues').replaceChildren(queues.length
    ? table([['Destination'], ['State'], ...numbers, ['Oldest', 'num'], ['Last error'], ['Actions']], queues.map(queueRow))
    : none('Nothing was routed yet. Rules stand in [[dicom_routes]] of twin.toml.'))
  byId('letters-card').hidden = letters.length === 0
  byId('letters').replaceChildren(table([['Destination'], ['SOP Instance UID'], ['Attempts', 'num'], ['Last error']], letters.map(letterRow)))
  byId('peers').replaceChildren(peers.length
    ? table([['AE title'], ['Listens at'], ['Last association'], ['Associations', 'num'], ['Refused', 'num'], ['C-ECHO'], ['Asked'], ['Actions']], peers.map(peerRow))
    : none('No peer is known and none has called yet. Peers stand in [dicom_peers] of twin.toml.'))
  byId('priors').replaceChildren(priors.length
    ? table([['Order'], ['Archive'], ['State'], ['Priors', 'num'], ['Objects', 'num'], ['Attempts', 'num'], ['Queued'], ['Error']], priors.map(priorRow))
    : none('No order asked for priors yet. Archives stand in [[dicom_prefetch]] of twin.toml.'))
  byId('queues-note').textContent = `${queues.reduce((sum, q) => sum + q.waiting, 0)} waiting`
  byId('priors-note').textContent = `${priors.filter((f) => f.state === 'waiting').length} waiting`
  byId('status').textContent = `As of ${moment(new Date().toISOString())}`
  document.documentElement.dataset.ready = ''
}

async function renew() {
  const editing = document.activeElement?.tagName === 'BUTTON' && document.activeElement.id !== 'theme'
  if (busy || editing || document.hidden) return
  await load().catch((error) => { byId('status').textContent = error.message })
}

themeButton(byId('theme'))
load().catch((error) => { byId('status').textContent = error.message })
setInterval(renew, RENEW_MS)
