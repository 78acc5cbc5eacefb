// Delivers random histories to a gateway as a bad network does, in rounds, between which somebody may stop the gateway:
// updates are lost, merged, cut down to what a state vector lacks, repeated and put out of order; they come by PATCH and
// in rooms. Whatever is missing is asked for and sent. Then every version that is known is compared with Yjs.
//
// Reads {"project", "seed", "histories", "rounds"} as the first line from stdin. After each round it writes {"round"} to
// stdout and waits for a line, {"squashed": true} where old versions may be gone since. At the end it writes a line for
// each history, as differential.mjs does.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { connections } from './gateway_file.mjs'
import { alike, content, equal, load, pending, Replay } from './replay.mjs'

const PATIENCE_MS = 60_000

const varUint = (number) => number < 128 ? [number] : [128 | (number & 127), ...varUint(Math.floor(number / 128))]
const syncUpdate = (update) => new Uint8Array([0, 2, ...varUint(update.length), ...update])

class Delivery extends Replay {
  constructor (seed, project, agent, rounds) {
    super(seed, project, agent)
    this.room = `${project.replace('http', 'ws')}/ws/history-${seed}.md`
    const { messages } = this.history
    const size = Math.ceil(messages.length / rounds)
    this.parts = Array.from({ length: rounds }, (_, number) => messages.slice(number * size, (number + 1) * size))
    this.ways = { lost: 0, cut: 0, joined: 0, rooms: 0 }
  }

  get known () { return [...this.model.versions.keys()].filter((version) => this.model.versions[version]) }

  async deliver (round) {
    const { random } = this.history
    const messages = [...this.parts[round]]
    while (messages.length > 0) {
      const group = messages.splice(0, random.pick([1, 1, 2, 3, 6]))
      if (random.chance(0.4)) await this.inRoom(group)
      else for (const message of this.damaged(group)) await this.send(message)
      if (random.chance(0.3)) await this.fetchIncrement(random.pick(this.known))
    }
  }

  // What is left of messages on their way: each with the document of which it was a part.
  damaged (messages) {
    const { random } = this.history
    const arrived = []
    for (const { update, whole } of messages) {
      const way = random.below(10)
      if (way === 0) this.ways.lost++
      else if (way < 3) {
        this.ways.cut++
        const stateVector = Y.encodeStateVector(load(this.model.versions[random.pick(this.known)].whole))
        arrived.push({ update: Y.diffUpdate(update, stateVector), whole })
      } else if (way < 5 && arrived.length > 0) {
        this.ways.joined++
        const other = arrived.pop()
        const [first, second] = random.shuffle([other.update, update])
        arrived.push({ update: Y.mergeUpdates([first, second]), whole: Y.mergeUpdates([other.whole, whole]) })
      } else arrived.push({ update, whole })
    }
    return arrived
  }

  // Some messages in a row in a room, as one write; then whatever may be missing of them.
  async inRoom (messages) {
    const { model, history: { random } } = this
    const before = model.version
    const sent = this.damaged(messages)
    if (sent.length === 0) return
    this.ways.rooms++
    const expected = load(model.versions[before].whole, ...sent.map(({ whole }) => whole))
    assert.ok(!pending(expected))
    const socket = new WebSocket(this.room)
    await once(socket, 'open')
    for (const { update } of sent) socket.send(syncUpdate(update))
    for (const { whole } of random.shuffle(sent)) socket.send(syncUpdate(whole))
    await this.until(expected)
    socket.close()
    await once(socket, 'close')
  }

  // Waits until the file is as it should be: how many versions that takes depends on what came together.
  async until (expected) {
    const { model } = this
    const [wanted, clocks] = [content(expected), Y.encodeStateVector(expected)]
    if (model.version === 0 && Y.encodeStateAsUpdate(expected).length === 2) return // nothing makes no file there
    const deadline = Date.now() + PATIENCE_MS
    let version = model.version
    for (;;) {
      const answer = model.version === 0 ? await this.first() : await this.file.get({})
      const doc = load(answer.body)
      version = answer.version
      if (alike(content(doc), wanted) && Buffer.compare(Y.encodeStateVector(doc), clocks) === 0) break
      if (Date.now() > deadline) equal(content(doc), wanted, `what was sent in a room, version ${version}`)
      await this.file.get({ from_version: version, wait: 2 })
    }
    assert.ok(version >= model.version)
    if (version > model.version) {
      model.doc = load(model.versions[model.version].whole, Y.encodeStateAsUpdate(expected))
      const unknown = version - model.version - 1
      model.versions.push(...Array.from({ length: unknown }, () => null), model.state)
    }
    assert.equal(version, model.version)
  }

  // The file's first version; it is there a moment after a room was sent it.
  async first () {
    for (let tries = 0; ; tries++) {
      try {
        return await this.file.get({})
      } catch (problem) {
        if (problem.status !== 404 || tries === 600) throw problem
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }

  // All that is still missing comes; then everything that can be read is compared.
  async finish (squashed) {
    const { model, history: { random, merged } } = this
    const whole = Y.encodeStateAsUpdate(merged)
    await this.send({ update: whole, whole })
    if (model.version === 0) return
    equal(model.versions.at(-1).content, content(merged), 'what was sent is not what the clients have')
    for (const version of this.known.slice(1)) {
      try {
        await this.fetchWhole(version, { at_version: version })
        await this.compareJson(version, { at_version: version })
        await this.compareText(version)
      } catch (problem) {
        if (!squashed || problem.code !== 'version_not_found' || version === model.version) throw problem
      }
      await this.fetchIncrement(version)
      await this.fetchDifference(version)
    }
    await this.fetchWhole(model.version, {})
    await this.compareJson(model.version, {})
    if (!squashed) await this.compareDifference(...[random.pick(this.known.slice(1)), random.pick(this.known.slice(1))])
    if (!squashed) await this.restore(random.pick(this.known.slice(1)))
  }

  // The text of a version, where there is one.
  async compareText (version) {
    const text = await this.textOf(version)
    if (text === null) return
    const [expected] = this.model.versions[version].json.content
    equal(text, expected.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '\ufffd'), `the text of version ${version}`)
    return text
  }

  async textOf (version) {
    try {
      return Buffer.from((await this.file.get({ at_version: version, format: 'text', root: 'content' })).body).toString()
    } catch (problem) {
      if (problem.code !== 'not_a_text') throw problem
      return null
    }
  }

  // What the gateway says has changed makes the one text of the other.
  async compareDifference (older, newer) {
    const [text, goal] = [await this.textOf(older), await this.textOf(newer)]
    if (text === null || goal === null) return
    const { edits } = await this.file.difference(older, newer)
    const characters = [...text]
    for (const { start, end, text: inserted } of edits.reverse()) characters.splice(start, end - start, ...inserted)
    assert.equal(characters.join(''), goal, `the difference from ${older} to ${newer}`)
  }

  get result () {
    const { ways, history: { order } } = this
    const versions = this.model.versions.map((state) => state && { json: state.json })
    return { ways, order, fetched: this.fetched, versions, sent: this.sent, refused: this.refused, incomplete: this.incomplete }
  }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const read = async () => JSON.parse((await lines.next()).value)
const write = async (value) => {
  if (!process.stdout.write(JSON.stringify(value) + '\n')) await once(process.stdout, 'drain')
}

const { project, seed, histories, rounds } = await read()
const failures = new Map()
const guarded = async (delivery, work) => {
  if (failures.has(delivery)) return
  try {
    await work(delivery)
  } catch (error) {
    failures.set(delivery, String(error.stack))
  }
}
const eachOf = (deliveries, work) => Promise.all(deliveries.map((delivery) => guarded(delivery, work)))

let agent = connections(16)
const deliveries = Array.from({ length: histories }, (_, number) => new Delivery(seed + number, project, agent, rounds))
let squashed = false
for (let round = 0; round < rounds; round++) {
  await eachOf(deliveries, (delivery) => delivery.deliver(round))
  agent.destroy() // the gateway may be another one afterwards
  await write({ round })
  squashed ||= (await read()).squashed
  agent = connections(16)
  for (const delivery of deliveries) delivery.file.agent = agent
}
await eachOf(deliveries, (delivery) => delivery.finish(squashed))
agent.destroy()
for (const [number, delivery] of deliveries.entries()) {
  const failure = failures.get(delivery)
  await write({ seed: seed + number, ...(failure ? { failure } : delivery.result) })
}
process.stdin.destroy()
