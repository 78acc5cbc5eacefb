// Two people type a concurrent trace at the same time, each behind a stock y-websocket provider, while a third client
// follows by increments over HTTP and a fourth by server-sent events. Reads {"project", "path", "trace"} from stdin, writes
// what each of them ends with as JSON to stdout.
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'
import WebSocket from 'ws'
import http from 'node:http'
import { createInterface } from 'node:readline'
import { connections, GatewayFile, readRequest } from './gateway_file.mjs'
import { neededOfOther, TypedDocument } from './typed_document.mjs'

const CLIENTS = [1001, 1002]

// The updates that each author's transactions make, typed into documents that hold just what the trace says; with each how
// much of the other one's it builds on, as a clock.
const typeTrace = ({ txns }) => {
  const authors = CLIENTS.map((client) => ({ typed: new TypedDocument(client), edits: [], clocks: [0], received: 0 }))
  const needed = neededOfOther(txns)
  for (const author of authors) {
    author.typed.doc.on('update', (update, origin) => { if (origin !== 'gateway') author.update = update })
  }
  txns.forEach(({ agent, patches }, index) => {
    const author = authors[agent]
    const other = authors[1 - agent]
    if (needed[index] > author.received) {
      const missing = other.edits.slice(author.received, needed[index])
      author.typed.receive(Y.mergeUpdates(missing.map(({ update }) => update)))
      author.received = needed[index]
    }
    author.update = new Uint8Array([0, 0])
    author.typed.doc.transact(() => author.typed.type(patches))
    author.edits.push({ update: author.update, after: other.clocks[author.received] })
    author.clocks.push(Y.getState(author.typed.doc.store, CLIENTS[agent]))
  })
  return authors.map(({ edits }) => edits)
}

// One who types: an edit leaves as soon as what it was typed after has come from the gateway.
class Typist {
  constructor (server, path, agent) {
    this.doc = new Y.Doc()
    this.other = CLIENTS[1 - agent]
    this.provider = new WebsocketProvider(server, path, this.doc, { WebSocketPolyfill: WebSocket, disableBc: true })
  }

  until (condition) {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition()) return
        this.doc.off('afterTransaction', look)
        this.provider.off('sync', look)
        resolve()
      }
      this.doc.on('afterTransaction', look)
      this.provider.on('sync', look)
      look()
    })
  }

  async type (edits) {
    await this.until(() => this.provider.synced)
    for (const [index, { update, after }] of edits.entries()) {
      if (Y.getState(this.doc.store, this.other) < after) {
        await this.until(() => Y.getState(this.doc.store, this.other) >= after)
      }
      Y.applyUpdate(this.doc, update, 'typed')
      if (index % 50 === 49) await new Promise(setImmediate) // a turn for the sockets
    }
  }

  get text () {
    return this.doc.getText('content').toString()
  }
}

// One who follows over HTTP, by increments alone.
class Follower {
  constructor (file) {
    this.file = file
    this.doc = new Y.Doc()
    this.version = 0
    this.increments = 0
  }

  async pull (wait) {
    const answer = await this.file.get({ from_version: this.version, wait })
    if (answer === null) return
    if (answer.version <= this.version) throw new Error(`version ${answer.version} after ${this.version}`)
    if (answer.buildsOn !== 0 && answer.buildsOn !== this.version) throw new Error(`builds on ${answer.buildsOn}`)
    Y.applyUpdate(this.doc, answer.body)
    if (this.doc.store.pendingStructs !== null || this.doc.store.pendingDs !== null) throw new Error('something is missing')
    this.version = answer.version
    this.increments++
  }

  get text () {
    return this.doc.getText('content').toString()
  }
}

const followByPolling = async (follower, end) => {
  while (follower.text !== end) await follower.pull(50)
}

const followByEvents = (follower, url, end) => new Promise((resolve, reject) => {
  http.get(url, { headers: { Accept: 'text/event-stream' } }, async (response) => {
    let name = ''
    for await (const line of createInterface({ input: response })) {
      if (line.startsWith('event: ')) name = line.slice(7)
      if (line !== '' || name !== 'change') continue
      name = ''
      await follower.pull(0)
      if (follower.text === end) resolve()
    }
  }).on('error', reject)
})

const { project, path, trace } = await readRequest()
const edits = typeTrace(trace)
const agent = connections(4)
await new GatewayFile(project, path, agent).patch(new Uint8Array([0, 0])) // there is something to follow
const typists = CLIENTS.map((_, index) => new Typist(project.replace('http', 'ws') + '/ws', path, index))
const followers = [0, 1].map(() => new Follower(new GatewayFile(project, path, agent)))
const following = [
  followByPolling(followers[0], trace.endContent),
  followByEvents(followers[1], `${project}/changes?kinds=file&path=${path}`, trace.endContent)
]
await Promise.all(typists.map((typist, index) => typist.type(edits[index])))
await Promise.all([...following, ...typists.map((typist) => typist.until(() => typist.text === trace.endContent))])
process.stdout.write(JSON.stringify({
  texts: [...typists, ...followers].map(({ text }) => text),
  versions: followers.map(({ version }) => version),
  increments: followers.map(({ increments }) => increments),
  edits: edits.map(({ length }) => length)
}), () => process.exit(0))
