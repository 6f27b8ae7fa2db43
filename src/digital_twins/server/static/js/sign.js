// The signature dialog: name and password, then a one-time code or an authenticator (WebAuthn).
import { byId, getJson, h, moment, problemLines } from './dom.js'

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))
const coded = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
const listed = (credentials) => (credentials ?? []).map((each) => ({ ...each, id: bytes(each.id) }))

async function send(url, body, method = 'POST') {
  const response = await fetch(url, { method, headers: { 'content-type': 'application/json', accept: 'application/json' }, body: JSON.stringify(body) })
  const answer = await response.json().catch(() => null)
  if (!response.ok) throw Object.assign(new Error(answer?.what ?? `The node answered ${response.status}.`), { problem: answer })
  return answer
}

async function answered(options) {
  const publicKey = { ...options, challenge: bytes(options.challenge), allowCredentials: listed(options.allowCredentials) }
  const made = await navigator.credentials.get({ publicKey })
  const response = { authenticatorData: coded(made.response.authenticatorData), clientDataJSON: coded(made.response.clientDataJSON), signature: coded(made.response.signature) }
  return { id: made.id, rawId: coded(made.rawId), type: made.type, response, clientExtensionResults: {} }
}

async function created(options) {
  const publicKey = { ...options, challenge: bytes(options.challenge), user: { ...options.user, id: bytes(options.user.id) }, excludeCredentials: listed(options.excludeCredentials) }
  const made = await navigator.credentials.create({ publicKey })
  const response = { attestationObject: coded(made.response.attestationObject), clientDataJSON: coded(made.response.clientDataJSON) }
  return { id: made.id, rawId: coded(made.rawId), type: made.type, response, clientExtensionResults: {} }
}

const value = (id) => byId(id).value.trim() || null
const chosen = () => document.querySelector('input[name="second"]:checked').value

async function keys() {
  const found = await getJson('/api/authenticators')
  byId('sign-keys').replaceChildren(...found.map((each) => h('li', {},
    h('span', {}, `${each.label}, since ${moment(each.created_utc)}`),
    h('button', { type: 'button', class: 'quiet', onclick: () => attempt(() => revoke(each)) }, 'Revoke', h('span', { class: 'visually-hidden' }, ` ${each.label}`)))))
  byId('sign-no-keys').hidden = found.length > 0
}

async function signatures(path) {
  const found = await getJson(path)
  byId('signatures').replaceChildren(...found.map((each) => h('li', {},
    h('span', {}, `${each.printed_name}, ${each.meaning}`),
    h('span', { class: 'muted' }, `${moment(each.signed_utc)} · ${each.authenticator ? 'authenticator' : 'one-time code'} · ${each.problems.length ? each.problems.join('; ') : 'holds'}`))))
}

async function revoke(each) {
  const response = await fetch(`/api/authenticators/${encodeURIComponent(each.credential)}`, { method: 'DELETE' })
  if (!response.ok) throw Object.assign(new Error('Not revoked.'), { problem: await response.json().catch(() => null) })
  await keys()
}

async function attempt(work) {
  byId('sign-problem').replaceChildren()
  byId('sign-status').textContent = 'Waiting…'
  try {
    byId('sign-status').textContent = (await work()) ?? ''
  } catch (error) {
    byId('sign-status').textContent = ''
    const lines = problemLines(error.problem)
    byId('sign-problem').replaceChildren(...(lines.length ? lines : [h('p', {}, error.name === 'NotAllowedError' ? 'The authenticator gave no answer.' : error.message)]))
  } finally {
    byId('sign-password').value = byId('sign-code').value = ''
  }
}

async function sign(path) {
  const shown = { meaning: byId('sign-meaning').value, name: value('sign-name'), password: value('sign-password') }
  if (chosen() === 'code') {
    await send(path, { ...shown, code: value('sign-code') })
  } else {
    const waits = await send(`${path}/challenge`, shown)
    await send(`${path}/answer`, { signature_id: waits.signature_id, credential: await answered(waits.options) })
  }
  await signatures(path)
  return 'Signed.'
}

async function register() {
  const options = await send('/api/authenticators/challenge', { password: value('sign-password') ?? '', code: value('sign-code') ?? '' })
  await send('/api/authenticators', { label: value('sign-label') ?? 'Authenticator', credential: await created(options) })
  await keys()
  return 'Registered.'
}

function second() {
  const code = chosen() === 'code'
  byId('sign-code').required = code
  byId('sign-code-field').hidden = !code
}

export function signatureDialog(twin) {
  const path = `/api/twins/${encodeURIComponent(twin.twin_id)}/report/signatures`
  const dialog = byId('sign')
  byId('sign-open').hidden = false
  byId('sign-open').addEventListener('click', () => {
    dialog.showModal()
    attempt(async () => { await Promise.all([keys(), signatures(path)]) })
  })
  byId('sign-close').addEventListener('click', () => dialog.close())
  byId('sign-form').addEventListener('submit', (event) => { event.preventDefault(); attempt(() => sign(path)) })
  byId('sign-register').addEventListener('click', () => attempt(register))
  byId('sign-add').addEventListener('toggle', () => { byId('sign-code-field').hidden = chosen() !== 'code' && !byId('sign-add').open })
  document.querySelectorAll('input[name="second"]').forEach((each) => each.addEventListener('change', second))
  second()
}
