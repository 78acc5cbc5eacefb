// Documents of every content that Yjs has, edited at random by two clients, and all that there is to see in one.
import * as Y from 'yjs'

const randomNumbers = (seed) => () => { // mulberry32
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const PLAIN = [
  true, 1, 0, false, null, '', '1', 'true', 'ä😀', -0, 1.5, 2 ** 40, -3, { on: true }, { on: 1 }, [1, { a: true }],
  [true, { a: 1 }], [], {}, { z: 1, a: [null, 'x'], 7: { y: 1, b: 2 } }, [10n, [5]], [undefined]
]
const JSON_VALUES = [true, 1, 0, false, '', '1', 'ä', 1.5, { on: true }, { on: 1 }, [1, true], { z: 1, a: 2 }]
const WORDS = ['a', 'bc', 'ä', '😀', 'line\n', 'x😀y', 'ab', 'ca']
const KEYS = ['k', 'l', 'ä']
const FORMATS = ['b', 'i', 'link']

class Editor {
  constructor (seed) {
    this.random = randomNumbers(seed)
    this.docs = [1, 2].map((client) => {
      const doc = new Y.Doc()
      doc.clientID = client + 1000 * (1 + seed)
      return doc
    })
  }

  below (n) { return Math.floor(this.random() * n) }
  one (list) { return list[this.below(list.length)] }

  sync () {
    const [a, b] = this.docs
    Y.applyUpdate(a, Y.encodeStateAsUpdate(b))
    Y.applyUpdate(b, Y.encodeStateAsUpdate(a))
  }

  edit (steps) {
    for (let step = 0; step < steps; step++) {
      const doc = this.one(this.docs)
      doc.transact(() => this.change(this.one(this.types(doc))))
      if (this.below(4) === 0) this.sync()
    }
    this.sync()
    return Y.encodeStateAsUpdate(this.docs[0])
  }

  types (doc) {
    const found = [...Object.values(roots(doc))]
    for (const type of found) { // grows
      for (const item of Object.values(itemsOf(type))) if (item.content.type !== undefined) found.push(item.content.type)
    }
    return found
  }

  value () {
    const kind = this.below(10)
    if (kind === 0) return new Uint8Array([this.below(3), 2])
    if (kind === 1) return new Y.Doc({ guid: this.one(['g', 'h']), meta: this.one([null, { title: 't', n: 1 }]) })
    return kind < 5 ? this.type() : this.one(PLAIN)
  }

  type () {
    return this.one([
      () => new Y.Text(this.one(WORDS)), () => new Y.Map([[this.one(KEYS), this.one(PLAIN)]]),
      () => Y.Array.from([this.one(PLAIN)]), () => this.node()
    ])()
  }

  node () {
    return this.one([
      () => new Y.XmlElement(this.one(['p', 'h'])), () => new Y.XmlText(this.one(WORDS)), () => new Y.XmlHook('hook')
    ])()
  }

  formats () {
    return this.below(2) ? {} : { [this.one(FORMATS)]: this.one(JSON_VALUES) }
  }

  change (type) {
    const length = type._length
    const at = this.below(length + 1)
    const many = Math.min(length - at, 1 + this.below(3))
    const action = this.below(5)
    if (action === 0 && !(type instanceof Y.Array) && !(type instanceof Y.Map)) { // by key
      if (type instanceof Y.XmlFragment && !(type instanceof Y.XmlElement)) return
      if (this.below(3) === 0) type.removeAttribute(this.one(KEYS))
      else type.setAttribute(this.one(KEYS), this.value())
    } else if (type instanceof Y.Text) {
      if (action === 1 && many > 0) type.delete(at, many)
      else if (action === 2 && many > 0) type.format(at, many, { [this.one(FORMATS)]: this.one([null, ...JSON_VALUES]) })
      else if (action === 3) type.insertEmbed(at, this.below(2) ? { image: this.one(JSON_VALUES) } : this.type(), this.formats())
      else type.insert(at, this.one(WORDS), this.below(2) ? undefined : this.formats())
    } else if (type instanceof Y.Map) {
      if (action === 1) type.delete(this.one(KEYS))
      else type.set(this.one(KEYS), this.below(12) ? this.value() : undefined)
    } else if (action === 1 && many > 0) {
      type.delete(at, many)
    } else {
      type.insert(at, type instanceof Y.Array ? [this.value(), this.one(PLAIN)].slice(this.below(2)) : [this.node()])
    }
  }
}

const roots = (doc) => ({
  t: doc.getText('t'), a: doc.getArray('a'), m: doc.getMap('m'), x: doc.getXmlFragment('x'),
  e: doc.get('e', Y.XmlElement), xt: doc.get('xt', Y.XmlText)
})

const itemsOf = (type) => {
  const items = [...type._map.values()]
  for (let item = type._start; item !== null; item = item.right) items.push(item)
  return items.filter((item) => !item.deleted)
}

// Two versions of one document, as whole updates.
export const randomVersions = (seed) => {
  const editor = new Editor(seed)
  const old = editor.edit(2 + editor.below(30))
  return [old, editor.edit(editor.below(editor.below(20) + 1))]
}

const see = (value) => {
  if (value instanceof Y.Text) return [value.constructor.name, pieces(value), entries(value)]
  if (value instanceof Y.Array) return ['YArray', value.toArray().map(see)]
  if (value instanceof Y.XmlHook) return ['YXmlHook', value.hookName, entries(value)]
  if (value instanceof Y.Map) return ['YMap', entries(value)]
  if (value instanceof Y.XmlElement) return ['YXmlElement', value.nodeName, entries(value), value.toArray().map(see)]
  if (value instanceof Y.XmlFragment) return ['YXmlFragment', value.toArray().map(see)]
  if (value instanceof Y.Doc) return ['Doc', value.guid, value.meta, value.autoLoad]
  if (value instanceof Uint8Array) return ['bytes', ...value]
  if (typeof value === 'bigint') return ['BigInt', String(value)]
  if (value === undefined) return ['undefined']
  if (Object.is(value, -0)) return ['-0']
  if (Array.isArray(value)) return value.map(see)
  if (value !== null && typeof value === 'object') return { ...Object.fromEntries(Object.entries(value).map(([k, v]) => [k, see(v)])) }
  return value
}

// By key, sorted: in which order Yjs has them depends on the order in which updates came.
const entries = (type) => [...type._map.entries()].filter(([, item]) => !item.deleted)
  .map(([key, item]) => [key, see(item.content.getContent()[item.length - 1])]).sort(([a], [b]) => (a < b ? -1 : 1))

// The delta, with neighbours of the same formats as one.
const pieces = (type) => {
  const seen = []
  for (const { insert, attributes = {} } of type.toDelta()) {
    const formats = Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1))
    const last = seen.at(-1)
    if (typeof insert === 'string' && typeof last?.[0] === 'string' && JSON.stringify(last[1]) === JSON.stringify(formats)) last[0] += insert
    else seen.push([see(insert), formats])
  }
  return seen
}

const jsonOf = (value) => JSON.parse(JSON.stringify(value, (_, each) => typeof each === 'bigint' ? Number(each) : each === undefined ? null : each))
const plain = (value) => value instanceof Uint8Array ? Buffer.from(value).toString('base64')
  : Array.isArray(value) ? value.map(plain)
    : value instanceof Y.Doc ? {}
      : value !== null && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)])) : value

// All that there is to see in a document, as ordered JSON, and what Yjs makes JSON of.
export const look = (updates) => {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, update)
  const found = roots(doc)
  const seen = Object.fromEntries(Object.entries(found).map(([name, root]) => [name, see(root)]))
  return {
    seen: JSON.stringify(seen),
    json: jsonOf(plain({ t: found.t.toJSON(), a: found.a.toJSON(), m: found.m.toJSON(), x: found.x.toJSON(), e: found.e.toJSON() })),
    whole: Buffer.from(Y.encodeStateAsUpdate(doc)).toString('base64'),
    pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null
  }
}
