// Random editing histories made by Yjs: several clients that edit, undo and merge. The same seed gives the same history.
import * as Y from 'yjs'

// mulberry32
export class Random {
  constructor (seed) { this.state = seed >>> 0 }

  next () {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let bits = this.state
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }

  below (end) { return Math.floor(this.next() * end) }
  chance (probability) { return this.next() < probability }
  pick (choices) { return choices[this.below(choices.length)] }

  shuffle (items) {
    const shuffled = [...items]
    for (let end = shuffled.length - 1; end > 0; end--) {
      const index = this.below(end + 1);
      [shuffled[index], shuffled[end]] = [shuffled[end], shuffled[index]]
    }
    return shuffled
  }
}

export const roots = (doc) => ({
  content: doc.getText('content'), map: doc.getMap('map'), array: doc.getArray('array'), xml: doc.getXmlFragment('xml')
})

const pieces = [
  'a', 'bc', 'def ', ' ', '\n', '\r\n', 'é', 'e\u0301', '한', '𝒳', '🙂', '👩‍👩‍👧‍👦', '🇩🇪', 'नि', '<b>', '&amp;', '"', '\\', '\0', '\u2028'
]
const keys = ['a', 'b', 'key', '🙂', '', '__proto__x', '10', '9']
const formats = ['bold', 'em', 'link']

const someText = (random) => Array.from({ length: 1 + random.below(3) }, () => random.pick(pieces)).join('')

const somePlain = (random, depth = 0) => random.pick([
  () => random.below(100) - 50,
  () => random.pick([0, 1, -1, 2 ** 31, -(2 ** 31), 2 ** 40, 2 ** 53 - 1, -(2 ** 53 - 1), 0.1, 1e21, 1e-7, -0.5, 1e300]),
  () => someText(random),
  () => random.chance(0.5),
  () => null,
  () => undefined,
  () => random.pick([NaN, Infinity, -0, BigInt(random.below(1000)), 2n ** 62n, -(2n ** 63n), 2n ** 53n + 1n]),
  () => '',
  () => depth > 1 ? [] : Array.from({ length: random.below(3) }, () => somePlain(random, depth + 1)),
  () => depth > 1 ? {} : Object.fromEntries(Array.from({ length: random.below(3) }, () => [random.pick(keys), somePlain(random, depth + 1)]))
])()

const someValue = (random) => random.chance(0.1) ? new Uint8Array([random.below(256), 0, 255]) : somePlain(random)

const someXml = (random) => {
  if (random.chance(0.4)) return new Y.XmlText(someText(random))
  if (random.chance(0.1)) return new Y.XmlHook(random.pick(['hook', 'a hook']))
  const element = new Y.XmlElement(random.pick(['p', 'DIV', 'my-tag']))
  if (random.chance(0.5)) element.setAttribute(random.pick(['id', 'class']), someText(random))
  if (random.chance(0.3)) element.insert(0, [someXml(random)])
  return element
}

const someShared = (random) => random.pick([
  () => new Y.Text(someText(random)),
  () => new Y.Text(),
  () => new Y.Map([['in', someValue(random)]]),
  () => new Y.Map(),
  () => Y.Array.from([someItem(random)]),
  () => new Y.Array(),
  () => someXml(random),
  () => new Y.XmlFragment(),
  () => new Y.Doc({ guid: 'subdocument', ...random.pick([{}, { autoLoad: true }, { gc: false }, { meta: { title: 'y', n: 1, a: [] } }]) })
])()

const someMember = (random) => random.chance(0.3) ? someShared(random) : someValue(random)

// Yjs takes these as values of a map, and of an array only further down.
const someItem = (random) => {
  const item = someMember(random)
  return item === undefined || typeof item === 'bigint' ? [item] : item
}

// The offsets of a text that do not lie within a surrogate pair.
const offsets = (text) => {
  const found = [0]
  for (const { insert } of text.toDelta()) {
    for (const character of typeof insert === 'string' ? insert : ' ') found.push(found.at(-1) + character.length)
  }
  return found
}

const someRange = (random, text) => {
  const places = random.chance(0.03) ? Array.from({ length: text.length + 1 }, (_, place) => place) : offsets(text)
  const [first, second] = [random.below(places.length), random.below(Math.min(places.length, 6))]
  const start = places[first]
  return [start, places[Math.min(places.length - 1, first + second)] - start]
}

const someFormat = (random) => ({
  [random.pick(formats)]: random.pick([true, null, null, 'red', 3, 0.5, { title: 'y', href: 'x' }])
})

const editText = (random, text) => {
  const [start, length] = someRange(random, text)
  const edit = random.below(10)
  if (edit < 5) text.insert(start, someText(random), random.chance(0.2) ? someFormat(random) : undefined)
  else if (edit < 7) length > 0 && text.delete(start, length)
  else if (edit < 9) length > 0 && text.format(start, length, someFormat(random))
  else text.insertEmbed(start, random.pick([
    { image: someText(random) }, { width: 3, image: someText(random), alt: null }, someText(random), someShared(random)
  ]))
}

const editMap = (random, map) => {
  if (random.chance(0.25)) map.delete(random.pick(keys))
  else map.set(random.pick(keys), someMember(random))
}

const editList = (random, list, member) => {
  const index = random.below(list.length + 1)
  if (random.chance(0.3) && index < list.length) list.delete(index, 1 + random.below(Math.min(3, list.length - index)))
  else list.insert(index, Array.from({ length: 1 + random.below(2) }, () => member(random)))
}

const editElement = (random, element) => {
  const name = random.pick(['id', 'class', 'data-x'])
  const edit = random.below(4)
  if (edit === 0) element.setAttribute(name, random.chance(0.7) ? someText(random) : somePlain(random) ?? null)
  else if (edit === 1) element.removeAttribute(name)
  else editList(random, element, someXml)
}

const edit = (random, shared) => {
  if (shared instanceof Y.XmlElement) editElement(random, shared)
  else if (shared instanceof Y.XmlFragment) editList(random, shared, someXml)
  else if (shared instanceof Y.Text) editText(random, shared)
  else if (shared instanceof Y.Map) editMap(random, shared)
  else editList(random, shared, someItem)
}

// The shared types that lie directly in another one.
const members = (shared) => {
  if (shared instanceof Y.Text) return shared.toDelta().map(({ insert }) => insert)
  if (shared instanceof Y.Map) return [...shared.values()]
  return shared.toArray()
}

const withNested = (shared) => (
  [shared, ...members(shared).filter((member) => member instanceof Y.AbstractType).flatMap(withNested)]
)

class Client {
  constructor (random, index, messages) {
    this.doc = new Y.Doc({ guid: 'client' })
    this.doc.clientID = random.chance(0.2) ? index + 1 : random.below(2 ** 32)
    this.messages = messages
    this.emitted = []
    this.doc.on('update', (update, origin) => origin !== 'remote' && this.emitted.push(update))
    this.undoManager = new Y.UndoManager(Object.values(roots(this.doc)), { captureTimeout: 0 })
  }

  // Does something; what it sends for it become messages, with the document as it is then.
  step (act) {
    act()
    const whole = this.emitted.length > 0 ? Y.encodeStateAsUpdate(this.doc) : null
    for (const update of this.emitted.splice(0)) this.messages.push({ author: this, update, whole })
  }

  edit (random) {
    this.step(() => this.doc.transact(() => {
      for (let count = random.pick([1, 1, 1, 2, 4]); count > 0; count--) {
        edit(random, random.pick(Object.values(roots(this.doc)).flatMap(withNested)))
      }
    }))
  }

  receive (other) {
    this.step(() => Y.applyUpdate(this.doc, Y.encodeStateAsUpdate(other.doc, Y.encodeStateVector(this.doc)), 'remote'))
  }

  resend () {
    const whole = Y.encodeStateAsUpdate(this.doc)
    this.messages.push({ author: this, update: whole, whole })
  }
}

// A client that was offline sends updates of its as one, in some clients also when one between them is missing.
const mergeSome = (random, messages) => {
  const merged = []
  for (const message of messages) {
    const last = merged.findLast(({ author }) => author === message.author)
    if (last !== undefined && random.chance(0.2)) {
      merged[merged.indexOf(last)] = { ...message, update: Y.mergeUpdates([last.update, message.update]) }
      if (random.chance(0.3)) merged.push(message)
    } else merged.push(message)
  }
  return merged
}

const repeatSome = (random, messages) => {
  const repeated = [...messages]
  for (const message of messages) {
    if (random.chance(0.4)) repeated.splice(random.below(repeated.length + 1), 0, message)
  }
  return repeated
}

// Returns the messages in the order in which they are to be sent, and the document that all of them make.
export const makeHistory = (seed) => {
  const random = new Random(seed)
  const messages = []
  const clients = Array.from({ length: 2 + random.below(3) }, (_, index) => new Client(random, index, messages))
  for (let steps = random.chance(0.05) ? 80 : 8 + random.below(18); steps > 0; steps--) {
    const client = random.pick(clients)
    const step = random.below(20)
    if (step < 11) client.edit(random)
    else if (step < 13) client.step(() => client.undoManager.undo())
    else if (step < 14) client.step(() => client.undoManager.redo())
    else if (step < 19) client.receive(random.pick(clients))
    else client.resend()
  }
  const order = random.pick(['causal', 'duplicated', 'shuffled', 'shuffled and duplicated'])
  let sent = mergeSome(random, messages)
  if (order.includes('duplicated')) sent = repeatSome(random, sent)
  if (order.includes('shuffled')) sent = random.shuffle(sent)
  const merged = new Y.Doc({ guid: 'merged' })
  for (const { doc } of clients) Y.applyUpdate(merged, Y.encodeStateAsUpdate(doc))
  return { random, order, messages: sent, merged }
}
