// Small helpers: build elements, format numbers, fetch JSON with problem+json errors.
const SVG = 'http://www.w3.org/2000/svg'

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else node.setAttribute(name, value === true ? '' : String(value))
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined))
  return node
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children)
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children)
export const byId = (id) => document.getElementById(id)

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1000) return value.toFixed(0)
  if (size >= 0.001) return String(Number(value.toPrecision(digits)))
  return value.toExponential(digits - 1).replace('-', '−')
}

export const signed = (value, digits = 0) => (value > 0 ? '+' : value < 0 ? '−' : '') + Math.abs(value).toFixed(digits)
export const unit = (text) => (text === '1' ? '–' : text).replace('cm3', 'cm³').replace('mm2', 'mm²').replace(/\/d(ay)?$/, '/day')
export const day = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1))
export const date = (iso) => (iso ? iso.slice(0, 10) : '–')
export const moment = (iso) => (iso ? `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC` : '–')

export async function getJson(url) {
  const response = await fetch(url, { headers: { accept: 'application/json' } })
  const body = await response.json().catch(() => null)
  if (!response.ok) throw Object.assign(new Error(body?.what ?? `The node answered ${response.status}.`), { problem: body })
  return body
}

export function problemLines(problem) {
  return ['what', 'why', 'fix']
    .filter((name) => problem?.[name])
    .map((name) => h('p', {}, h('strong', {}, `${name[0].toUpperCase()}${name.slice(1)}: `), problem[name]))
}

export function table(columns, rows, attributes = {}) {
  const head = columns.map(([title, kind]) => h('th', { scope: 'col', class: kind }, title))
  return h('table', attributes, h('thead', {}, h('tr', {}, head)), h('tbody', {}, rows))
}
