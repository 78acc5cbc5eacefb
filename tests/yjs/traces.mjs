// Replays an editing trace against a gateway. Reads {"project", "path", "trace", "batch", "late_every"} from stdin, writes
// what came of it as JSON to stdout. A trace with `numAgents` is replayed by two clients, each with a document and a
// connection of its own; else one client makes one Yjs transaction and one PATCH of every `batch` transactions.
import * as Y from 'yjs'
import { connections, GatewayFile, patchWhole, readRequest } from './gateway_file.mjs'
import { neededOfOther, TypedDocument } from './typed_document.mjs'

const replayAlone = async ({ project, path, trace, batch }) => {
  const file = new GatewayFile(project, path, connections(1))
  const author = new TypedDocument(1)
  let update = null
  author.doc.on('update', (emitted) => { update = emitted })
  let version = 0
  for (let index = 0; index < trace.txns.length; index += batch) {
    update = null
    author.doc.transact(() => {
      for (const { patches } of trace.txns.slice(index, index + batch)) author.type(patches)
    })
    if (update === null) continue
    const receipt = await file.patch(update)
    if (!receipt.changed || receipt.version !== ++version) throw new Error(`${version}: ${JSON.stringify(receipt)}`)
  }
  return { versions: version, text: author.text.toString() }
}

// One of two authors. What it types leaves it only when the other one is about to type after it, as the trace has it:
// then as many PATCHes as the transactions make batches. Of these, every `lateEvery`th comes after the next one.
class Author {
  constructor (file, agent, { batch, lateEvery }) {
    this.file = file
    this.typed = new TypedDocument(agent + 1)
    this.batch = batch
    this.lateEvery = lateEvery
    this.updates = [] // one for each transaction typed
    this.released = new Y.Doc() // what has left, and what that builds on
    this.releasedCount = 0
    this.version = 0
    this.sent = this.healed = this.increments = 0
    this.typed.doc.on('update', (update, origin) => {
      if (origin === 'gateway') Y.applyUpdate(this.released, update)
      else this.updates.push(update)
    })
  }

  type (patches) {
    const before = this.updates.length
    this.typed.doc.transact(() => this.typed.type(patches))
    if (this.updates.length === before) this.updates.push(new Uint8Array([0, 0])) // an edit that changes nothing
  }

  // Sends the first `count` transactions that were typed, as far as they have not been sent.
  async release (count) {
    let late = null
    while (this.releasedCount < count) {
      const next = Math.min(count, this.releasedCount + this.batch)
      const update = Y.mergeUpdates(this.updates.slice(this.releasedCount, next))
      this.releasedCount = next
      Y.applyUpdate(this.released, update)
      if (++this.sent % this.lateEvery === 0 && late === null) {
        late = update
        continue
      }
      await this.send(update)
      if (late !== null) await this.send(late)
      late = null
    }
    if (late !== null) await this.send(late)
  }

  async send (update) {
    if (await patchWhole(this.file, update, this.released)) this.healed++
  }

  async pull () {
    const answer = await this.file.get({ from_version: this.version })
    if (answer === null) return
    if (answer.buildsOn !== this.version) throw new Error(`builds on ${answer.buildsOn}, not ${this.version}`)
    this.typed.receive(answer.body)
    this.version = answer.version
    this.increments++
  }

  get pending () {
    const { store } = this.typed.doc
    return store.pendingStructs !== null || store.pendingDs !== null
  }
}

const replayTogether = async ({ project, path, trace, batch, late_every: lateEvery }) => {
  const authors = [0, 1].map((agent) => (
    new Author(new GatewayFile(project, path, connections(1)), agent, { batch, lateEvery })
  ))
  const received = [0, 0] // how many of the other's transactions each author has
  for (const [index, needed] of neededOfOther(trace.txns).entries()) {
    const { agent, patches } = trace.txns[index]
    if (needed > received[agent]) {
      received[agent] = needed
      await authors[1 - agent].release(needed)
      await authors[agent].pull()
    }
    authors[agent].type(patches)
  }
  await Promise.all(authors.map((author) => author.release(author.updates.length)))
  await Promise.all(authors.map((author) => author.pull()))
  return {
    texts: authors.map(({ typed }) => typed.text.toString()),
    pending: authors.some(({ pending }) => pending),
    sent: authors.map(({ sent }) => sent),
    healed: authors.map(({ healed }) => healed),
    increments: authors.map(({ increments }) => increments)
  }
}

const request = await readRequest()
const replay = request.trace.numAgents === 2 ? replayTogether : replayAlone
process.stdout.write(JSON.stringify(await replay(request)), () => process.exit(0)) // leaves no connection to wait for
