// The API page: reads openapi.json and lists every operation; nothing is loaded from elsewhere.
import { byId, getJson, h } from './dom.js'
import { themeButton } from './theme.js'

function resolve(schema, document, depth = 0) {
  if (!schema || depth > 6) return '…'
  if (schema.$ref) return resolve(document.components.schemas[schema.$ref.split('/').pop()], document, depth + 1)
  if (schema.anyOf) return schema.anyOf.map((part) => resolve(part, document, depth + 1)).find((part) => part !== 'null') ?? null
  if (schema.type === 'array') return schema.prefixItems ? schema.prefixItems.map((part) => resolve(part, document, depth + 1)) : [resolve(schema.items, document, depth + 1)]
  if (schema.properties) return Object.fromEntries(Object.entries(schema.properties).map(([name, part]) => [name, resolve(part, document, depth + 1)]))
  return schema.enum?.join(' | ') ?? schema.const ?? schema.type ?? 'any'
}

function operation(path, verb, spec, document) {
  const parameters = (spec.parameters ?? []).map((p) => h('li', {}, h('code', {}, p.name), ` (${p.in}${p.required ? ', required' : ''}) ${p.description ?? ''}`))
  const answers = Object.entries(spec.responses ?? {}).map(([status, response]) => {
    const types = Object.keys(response.content ?? {})
    const schema = response.content?.['application/json']?.schema
    return h('div', {}, h('p', {}, h('strong', {}, status), ` ${response.description} ${types.join(', ')}`),
      schema ? h('pre', { tabindex: '0' }, JSON.stringify(resolve(schema, document), null, 2)) : null)
  })
  return h('details', { class: 'card' },
    h('summary', {}, h('span', { class: 'verb' }, verb.toUpperCase()), h('code', {}, path), ` ${spec.summary ?? ''}`),
    h('div', { class: 'pad' }, h('p', {}, spec.description ?? ''), parameters.length ? h('ul', {}, parameters) : null, answers))
}

themeButton(byId('theme'))
try {
  const document = await getJson('/api/openapi.json')
  byId('about').textContent = `${document.info.title} ${document.info.version}. ${document.info.description ?? ''}`
  const base = document.servers?.[0]?.url ?? ''
  for (const [path, verbs] of Object.entries(document.paths)) {
    for (const [verb, spec] of Object.entries(verbs)) byId('operations').append(operation(base + path, verb, spec, document))
  }
} catch (error) {
  byId('about').textContent = error.message
}
window.document.documentElement.dataset.ready = 'docs'
