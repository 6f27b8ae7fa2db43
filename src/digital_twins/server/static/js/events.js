// Job progress by server-sent events; the browser reconnects by itself.
export function onJobs(listener) {
  const source = new EventSource('/api/events')
  source.addEventListener('job', (message) => {
    const job = JSON.parse(message.data)
    if (job.kind === 'twin.build') listener(job)
  })
  addEventListener('pagehide', () => source.close())
  return source
}

const words = {
  queued: ['Queued', ''], running: ['Building', 'tag-warn'], succeeded: ['Ready', 'tag-good'],
  failed: ['Refused', 'tag-bad'], cancelled: ['Cancelled', ''],
}

export function jobWords(job, waitingFor, twins = 0) {
  if (job) {
    const [word, kind] = words[job.state] ?? [job.state, '']
    const progress = job.state === 'running' ? ` ${Math.round(job.fraction * 100)} %` : ''
    return [word + progress, kind]
  }
  return waitingFor ? [`Waiting for ${waitingFor}`, ''] : twins ? words.succeeded : ['Received', '']
}
