/** A page with a document on a provider, and functions for the tests. */
import * as Y from 'yjs'
import { GatewayClient } from '../../src/client.js'
import { connectShared } from '../../src/polling/shared-stream.js'
import { HttpProvider } from '../../src/provider/index.js'

/** All polls are triggered by a feed: the page itself polls only every ten minutes. */
const INTERVAL_MS = 600_000

const requests: string[] = []
const counted: typeof fetch = (input, init) => {
  requests.push(`${init?.method} ${String(input).slice(location.origin.length)}`)
  return fetch(input, init)
}

function open(project: string, path: string, token?: string) {
  const doc = new Y.Doc()
  const text = doc.getText('content')
  const options = { interval: INTERVAL_MS, batchMs: 5, fetch: counted, ...(token === undefined ? {} : { token }) }
  const provider = new HttpProvider(location.origin, project, path, doc, options)
  const until = (wanted: string) =>
    new Promise<void>((resolve) => {
      const look = () => text.toString().includes(wanted) && resolve()
      doc.on('update', look)
      look()
    })
  return { provider, text, until, requests }
}

/** Follow the shared feed of a project until it reports a file. */
async function hear(name: string, since: string, file: string, silenceMs: number): Promise<void> {
  const project = new GatewayClient(location.origin).project(name)
  const how = { view: 'open', transport: 'sse', since, silenceMs, answerMs: silenceMs } as const
  for await (const { changes } of connectShared(project, how)) {
    if (changes.some((entry) => entry.kind === 'file' && entry.path === file)) return
  }
}

const page = { open, hear }
Object.assign(window, { page })

export type SharedStreamPage = typeof page
