// Small helpers: elements, text that is written only when it changes, JSON from the monitor.
export const byId = (id) => document.getElementById(id)

export function h(tag, attributes, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else node.setAttribute(name, value === true ? '' : String(value))
  }
  node.append(...children.filter((child) => child !== null && child !== undefined))
  return node
}

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function mark(node, name, value) {
  if (node.getAttribute(name) === value) return
  if (value === null) node.removeAttribute(name)
  else node.setAttribute(name, value)
}

export const whole = (value, digits = 0) => (value === null || value === undefined ? '–' : value.toFixed(digits))
export const clock = (at) => new Date(at * 1000).toISOString().slice(11, 19)
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

export async function ask(method, url, body) {
  const headers = body === undefined ? {} : { 'content-type': 'application/json' }
  const response = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })
  const data = await response.json().catch(() => ({}))
  if (!response.ok) throw Object.assign(new Error([data.what, data.why, data.fix].filter(Boolean).join(' ') || `The monitor answered ${response.status}.`), { status: response.status })
  return data
}
