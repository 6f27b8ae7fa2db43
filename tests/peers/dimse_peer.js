// A modality and an archive by npm's dcmjs-dimse. Usage: node dimse_peer.js OUR_PORT ITS_PORT
// Writes one JSON line for each thing that happened.
const path = require('path');
const dimse = require(path.join(process.env.PEER_MODULES, 'dcmjs-dimse'));
const { Client, Server, Scp, Dataset, association } = dimse;
const { NCreateRequest, NSetRequest, NActionRequest, NEventReportRequest } = dimse.requests;
const { NCreateResponse, NSetResponse, NActionResponse, NEventReportResponse } = dimse.responses;
const MPPS = '1.2.840.10008.3.1.2.3.3';
const COMMITMENT = '1.2.840.10008.1.20.1';
const COMMITMENT_INSTANCE = '1.2.840.10008.1.20.1.1';
const [ours, its] = process.argv.slice(2).map(Number);
dimse.log.level = 'error';

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

function ask(name, request) {
  return new Promise((resolve) => {
    const client = new Client();
    request.on('response', (response) => say({ name, status: response.getStatus() }));
    client.on('networkError', (error) => say({ name, error: String(error.message) }));
    client.on('closed', resolve);
    client.addRequest(request);
    client.send('127.0.0.1', ours, 'JS', 'TWIN');
  });
}

function withDataset(request, elements) {
  request.setDataset(new Dataset(elements));
  return request;
}

const step = (status) => ({
  ScheduledStepAttributesSequence: [{ StudyInstanceUID: '1.2.3.1', ScheduledProcedureStepID: 'SPS1' }],
  PatientID: 'P1', PatientName: 'Doe^Jane', PerformedProcedureStepID: 'PPS1', PerformedStationAETitle: 'JS',
  PerformedProcedureStepStartDate: '20260301', PerformedProcedureStepStartTime: '090500', Modality: 'CT',
  PerformedProcedureStepStatus: status, PerformedSeriesSequence: [],
});
const end = (status) => ({
  PerformedProcedureStepStatus: status, PerformedProcedureStepEndDate: '20260301',
  PerformedProcedureStepEndTime: '092000', PerformedSeriesSequence: [{ SeriesInstanceUID: '1.2.3.1.1' }],
});
const ct = '1.2.840.10008.5.1.4.1.1.2';

class Peer extends Scp {
  associationRequested(asked) {
    for (const { id } of asked.getPresentationContexts()) {
      const context = asked.getPresentationContext(id);
      context.setResult(0, context.getTransferSyntaxUids()[0]);
    }
    this.sendAssociationAccept();
  }

  nCreateRequest(request, callback) {
    say({ name: 'create', status: request.getDataset().getElement('PerformedProcedureStepStatus') });
    const response = NCreateResponse.fromRequest(request);
    response.setStatus(0);
    callback(response);
  }

  nSetRequest(request, callback) {
    const status = request.getDataset().getElement('PerformedProcedureStepStatus');
    say({ name: 'set', status });
    const response = NSetResponse.fromRequest(request);
    response.setStatus(status === 'COMPLETED' ? 0 : 0x0110);
    callback(response);
  }

  nActionRequest(request, callback) {
    const asked = request.getDataset();
    const response = NActionResponse.fromRequest(request);
    response.setStatus(0);
    callback(response);
    const report = new NEventReportRequest(COMMITMENT, COMMITMENT_INSTANCE, 1);
    const elements = { TransactionUID: asked.getElement('TransactionUID') };
    elements.ReferencedSOPSequence = asked.getElement('ReferencedSOPSequence');
    setTimeout(() => ask('report sent', withDataset(report, elements)), 100);
  }

  nEventReportRequest(request, callback) {
    const told = request.getDataset();
    const list = (tag) => [].concat(told.getElement(tag) || []).map((item) => item.ReferencedSOPInstanceUID);
    say({ name: 'reported', event: request.getEventTypeId(), held: list('ReferencedSOPSequence'),
      failed: list('FailedSOPSequence') });
    const response = NEventReportResponse.fromRequest(request);
    response.setStatus(0);
    callback(response);
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

async function main() {
  const server = new Server(Peer);
  server.on('networkError', () => {});
  server.listen(its);
  const uid = '1.2.3.4.99';
  await ask('set before create', withDataset(new NSetRequest(MPPS, uid), end('COMPLETED')));
  await ask('create completed', withDataset(new NCreateRequest(MPPS, uid), step('COMPLETED')));
  await ask('create', withDataset(new NCreateRequest(MPPS, uid), step('IN PROGRESS')));
  await ask('create again', withDataset(new NCreateRequest(MPPS, uid), step('IN PROGRESS')));
  await ask('set unknown', withDataset(new NSetRequest(MPPS, uid), end('FORGOTTEN')));
  await ask('set completed', withDataset(new NSetRequest(MPPS, uid), end('COMPLETED')));
  await ask('set late', withDataset(new NSetRequest(MPPS, uid), end('DISCONTINUED')));
  const references = ['1.2.3.1.1.1', '1.2.3.404'].map((each) => (
    { ReferencedSOPClassUID: ct, ReferencedSOPInstanceUID: each }));
  const commit = new NActionRequest(COMMITMENT, COMMITMENT_INSTANCE, 1);
  await ask('commit', withDataset(commit, { TransactionUID: '1.2.3.777', ReferencedSOPSequence: references }));
  say({ name: 'done' });
}

process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
main();
