// One file of a gateway and the same file in Yjs: sends messages to both, and compares every version.
import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import * as Y from 'yjs'
import { GatewayFile } from './gateway_file.mjs'
import { makeHistory, roots } from './histories.mjs'

const base64 = (bytes) => Buffer.from(bytes).toString('base64')

// A document that changes by what it is sent alone. Yjs removes formats that concurrent edits made redundant, as an
// edit of its own; here nothing would be sent for that edit, and a later message that makes the same one would look new.
export const load = (...updates) => {
  const doc = new Y.Doc({ guid: 'loaded' })
  doc.on('beforeObserverCalls', (transaction) => {
    Object.defineProperty(transaction, '_needFormattingCleanup', { get: () => false, set: () => {} })
  })
  roots(doc)
  for (const update of updates) Y.applyUpdate(doc, update)
  return doc
}

export const pending = (doc) => doc.store.pendingStructs !== null || doc.store.pendingDs !== null

const sorted = (entries) => Object.fromEntries([...entries].sort(([first], [second]) => first < second ? -1 : 1))

// A value as JSON has it, in the gateway's way: bytes as base64, undefined as null, a subdocument as {}; entries of a
// shared type sorted, members of a plain object in the order in which they were sent.
const plain = (value) => {
  if (value instanceof Y.Doc) return {}
  if (value instanceof Y.Map) return sorted([...value.entries()].map(([key, member]) => [key, plain(member)]))
  if (value instanceof Y.Array) return value.toArray().map(plain)
  if (value instanceof Y.AbstractType) return value.toJSON()
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof Uint8Array) return base64(value)
  if (Array.isArray(value)) return value.map(plain)
  if (value === undefined || value === null) return null
  if (typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).map((key) => [key, plain(value[key])]))
}

// Whether two documents say the same. Where both halves of a pair are deleted or parted by different clients, it depends in
// Yjs itself on the order of the updates whether it shows the pair or U+FFFD for each half: then both are right.
export const alike = (one, other) => one === other ||
  (`${one}${other}`.includes('\ufffd') && withoutPairs(one) === withoutPairs(other))

const withoutPairs = (text) => text.replace(/[\u{10000}-\u{10ffff}]/gu, '\ufffd\ufffd')

export const equal = (actual, expected, label) => {
  if (!alike(actual, expected)) assert.equal(actual, expected, label)
}

// Each root's JSON, in all the ways that are right. The gateway tells the kind of a root from what it holds: a list of XML
// nodes alone may be XML, a text of embedded types alone may be an array.
const json = (doc) => Object.fromEntries(Object.entries(roots(doc)).map(([name, root]) => [name, readings(root)]))

const readings = (root) => {
  const found = [plain(root)]
  if (root instanceof Y.Array || root instanceof Y.Text) {
    const items = root instanceof Y.Array ? root.toArray() : root.toDelta().map(({ insert }) => insert)
    const isNode = (item) => item instanceof Y.XmlElement || item instanceof Y.XmlText || item instanceof Y.XmlHook
    if (items.every((item) => item instanceof Y.AbstractType)) found.push(items.map(plain))
    if (items.every(isNode)) found.push(items.join(''))
  }
  if ((root instanceof Y.Map ? root.size : root.length) === 0) found.push(null) // never written, or all of it deleted
  return found
}

// A text with its formats and embeds; a shared type within it as null.
const pieces = (text) => text.toDelta().map(({ insert, attributes = {} }) => (
  [insert instanceof Y.AbstractType ? null : insert, attributes]
))

// All that Yjs can tell of a value: also what its JSON leaves out, as formats and embeds.
const describe = (value) => {
  if (value instanceof Y.Text) {
    const pieces = value.toDelta().map(({ insert, attributes = {} }) => [describe(insert), entries(attributes)])
    return [value.constructor.name, pieces, value instanceof Y.XmlText ? entries(value.getAttributes()) : {}]
  }
  if (value instanceof Y.XmlElement) return [value.nodeName, entries(value.getAttributes()), value.toArray().map(describe)]
  if (value instanceof Y.AbstractType && !(value instanceof Y.Map)) return [value.constructor.name, value.toArray().map(describe)]
  if (value instanceof Y.Map) return [value.constructor.name, value.hookName ?? '', entries(Object.fromEntries(value.entries()))]
  if (value instanceof Y.Doc) return ['Doc', value.guid, value.gc, value.autoLoad, value.collectionid, describe(value.meta)]
  if (value instanceof Uint8Array) return { bytes: base64(value) }
  if (Array.isArray(value)) return value.map(describe)
  if (typeof value === 'bigint') return { bigint: String(value) }
  if (Object.is(value, -0)) return { not: '-0' }
  if (value === undefined || (typeof value === 'number' && !Number.isFinite(value))) return { not: String(value) }
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).map((key) => [key, describe(value[key])]))
}

// Entries of a shared type, or formats: their order says nothing. Of members of a plain object it does.
const entries = (value) => sorted(Object.entries(value).map(([key, member]) => [key, describe(member)]))

export const content = (doc) => JSON.stringify(Object.values(roots(doc)).map(describe))

// A content but for what a new edit cannot bring back: where pieces of a text with the same formats meet, and undefined,
// for which yrs writes null.
const meaning = (content) => JSON.stringify(joined(JSON.parse(content.replaceAll('{"not":"undefined"}', 'null'))))

const joined = (described) => {
  if (described === null || typeof described !== 'object') return described
  if (!Array.isArray(described)) {
    return Object.fromEntries(Object.entries(described).map(([key, value]) => [key, joined(value)]))
  }
  if (!['YText', 'YXmlText'].includes(described[0]) || !Array.isArray(described[1])) return described.map(joined)
  const [name, pieces, ...rest] = described
  const whole = []
  for (const [insert, formats] of pieces) {
    const last = whole.at(-1)
    const meets = typeof insert === 'string' && typeof last?.[0] === 'string' && isDeepStrictEqual(formats, last[1])
    if (meets) last[0] += insert
    else whole.push([joined(insert), formats])
  }
  return [name, whole, ...rest]
}

const clocks = (stateVector) => Object.fromEntries(Y.decodeStateVector(stateVector))

// The file as Yjs has it, and every version of it.
class Model {
  constructor () {
    this.doc = load()
    this.versions = [this.state]
  }

  get version () { return this.versions.length - 1 }

  get text () { return this.doc.getText('content') }

  get state () {
    const { doc } = this
    return { whole: Y.encodeStateAsUpdate(doc), content: content(doc), json: json(doc), pieces: pieces(this.text) }
  }

  // Takes an update, as far as it builds on what is there, and forgets the rest. Returns whether it changed the document,
  // and whether there was a rest.
  take (update) {
    let changed = false
    const note = () => { changed = true }
    this.doc.on('update', note)
    Y.applyUpdate(this.doc, update)
    this.doc.off('update', note)
    const incomplete = pending(this.doc)
    this.doc.store.pendingStructs = this.doc.store.pendingDs = null
    if (!incomplete && this.version === 0) changed = true // also what adds nothing makes a file
    if (changed) this.versions.push(this.state)
    return { changed, incomplete }
  }
}

const changedText = (random, text) => {
  const characters = [...text.toString()]
  for (let edits = random.below(3); edits >= 0; edits--) {
    const deleted = random.below(4)
    const inserted = random.pick(['', 'put ', '🙂', 'e\u0301\r\n', '👩‍👩‍👧‍👦'])
    characters.splice(random.below(characters.length + 1), deleted, ...inserted)
  }
  return characters.join('')
}

export class Replay {
  constructor (seed, project, agent) {
    this.history = makeHistory(seed)
    this.file = new GatewayFile(project, `history-${seed}.md`, agent)
    this.model = new Model()
    this.fetched = [] // [version it builds on, version it leads to, update]
    this.sent = this.refused = this.incomplete = 0
  }

  async run () {
    const { random, messages, merged } = this.history
    const agentWrites = random.chance(0.3)
    for (const message of messages) {
      await this.send(message)
      if (agentWrites && random.chance(0.2)) await this.put(changedText(random, this.model.text))
      if (random.chance(0.5)) await this.fetchIncrement(random.below(this.model.version + 1))
    }
    if (this.model.version === 0) return
    equal(this.model.versions.at(-1).content, content(merged), 'what was sent is not what the clients have')
    for (let version = 1; version <= this.model.version; version++) {
      await this.fetchWhole(version, { at_version: version })
      await this.fetchIncrement(version)
    }
    await this.fetchWhole(this.model.version, {})
    await this.fetchDifference(random.below(this.model.version + 1))
    await this.compareJson(this.model.version, {})
    const version = 1 + random.below(this.model.version)
    await this.compareJson(version, { at_version: version })
    const [first, second] = [random.below(this.model.version) + 1, this.model.version]
    await this.restore(first) // and back again
    await this.restore(second)
  }

  // The content becomes what it was, by an edit that merges with what somebody else did at the same time.
  async restore (version) {
    const { model } = this
    const before = model.version
    const receipt = await this.file.restore(version)
    const { body } = await this.file.get({ from_version: before }) ?? {}
    assert.equal(receipt.changed, body !== undefined)
    if (receipt.changed) assert.ok(model.take(body).changed)
    assert.equal(receipt.version, model.version)
    assert.equal(meaning(model.versions.at(-1).content), meaning(model.versions[version].content))
    const offline = new Y.Doc({ guid: 'offline' })
    Y.applyUpdate(offline, model.versions[before].whole)
    offline.getMap('map').set('offline', true)
    Y.applyUpdate(offline, body ?? new Uint8Array([0, 0]))
    assert.ok(!pending(offline))
    assert.equal(offline.getMap('map').get('offline'), true)
  }

  async send ({ update, whole }) {
    const expected = this.model.take(update)
    this.sent++
    let receipt
    try {
      receipt = await this.file.patch(update)
    } catch (problem) {
      assert.equal(problem.code, 'missing_predecessors', `message ${this.sent}: ${problem}`)
      assert.deepEqual(expected, { changed: false, incomplete: true }, `message ${this.sent} is refused`)
      this.refused++
      return await this.heal(whole, problem.stateVector)
    }
    const { changed, incomplete = false, version } = receipt
    assert.deepEqual({ changed, incomplete }, expected, `message ${this.sent}`)
    assert.equal(version, this.model.version)
    if (incomplete) {
      this.incomplete++
      await this.heal(whole, new Uint8Array(Buffer.from(receipt.state_vector, 'base64url')))
    } else assert.ok(!('state_vector' in receipt))
  }

  // Sends what is missing, as the gateway asked for it.
  async heal (whole, stateVector) {
    const { model } = this
    assert.deepEqual(clocks(stateVector), clocks(Y.encodeStateVector(model.doc)))
    const difference = Y.encodeStateAsUpdate(load(whole), stateVector)
    assert.deepEqual(model.take(difference), { changed: true, incomplete: false })
    const receipt = await this.file.patch(difference)
    assert.deepEqual([receipt.changed, receipt.incomplete, receipt.version], [true, undefined, model.version])
  }

  // An agent makes the text another one: what it does not know of stays.
  async put (text) {
    const { model } = this
    const embeds = () => pieces(model.text).filter(([insert]) => typeof insert !== 'string')
    const [before, present, kept] = [model.version, model.text.toString(), JSON.stringify(embeds())]
    if (present === '' && model.text.length > 0) return // embedded types alone are taken for an array
    const receipt = await this.file.put(text)
    assert.equal(receipt.changed, text !== present || before === 0)
    if (receipt.changed) {
      const { body } = await this.file.get({ from_version: before })
      assert.ok(model.take(body).changed)
      Y.applyUpdate(this.history.merged, body)
    }
    assert.equal(receipt.version, model.version)
    assert.equal(model.text.toString(), text)
    assert.equal(JSON.stringify(embeds()), kept)
  }

  async fetchWhole (version, parameters) {
    const answer = await this.file.get(parameters)
    assert.deepEqual([answer.version, answer.buildsOn], [version, 0])
    this.compare(0, version, answer.body)
  }

  async fetchIncrement (version) {
    if (this.model.version === 0) return
    const answer = await this.file.get({ from_version: version })
    if (answer === null) return assert.equal(version, this.model.version)
    assert.equal(answer.version, this.model.version)
    assert.ok([0, version].includes(answer.buildsOn))
    this.compare(answer.buildsOn, answer.version, answer.body)
  }

  async fetchDifference (version) {
    const stateVector = Y.encodeStateVector(load(this.model.versions[version].whole))
    const answer = await this.file.get({ state_vector: Buffer.from(stateVector).toString('base64url') })
    this.compare(version, this.model.version, answer.body)
  }

  compare (buildsOn, version, update) {
    const doc = load(this.model.versions[buildsOn].whole, update)
    const label = `version ${version} from ${buildsOn}`
    assert.ok(!pending(doc), `${label}: something is pending`)
    equal(content(doc), this.model.versions[version].content, label)
    this.fetched.push([buildsOn, version, base64(update)])
  }

  async compareJson (version, parameters) {
    const given = await this.file.json(parameters)
    const expected = this.model.versions[version].json
    for (const [name, readings] of Object.entries(expected)) {
      const value = given[name] ?? null // a root that was never written is not there
      const right = readings.some((reading) => alike(JSON.stringify(value), JSON.stringify(reading)))
      if (!right) assert.deepStrictEqual(value, readings[0], `${name} of version ${version}`)
    }
    assert.deepEqual(Object.keys(given).filter((name) => !(name in expected)), [])
  }

  get result () {
    const { history: { order }, sent, refused, incomplete, fetched, model } = this
    return { order, sent, refused, incomplete, fetched, versions: model.versions.map(({ json, pieces }) => ({ json, pieces })) }
  }
}
