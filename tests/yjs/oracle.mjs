// What Yjs makes of updates. Reads one JSON request a line from stdin, writes one JSON answer a line to stdout.
//
//   {"make": "read", "updates": [base64 …], "roots": {name: "text"|"map"|"array"|"xml"}}
//     → {"json": {name: value}, "whole": base64, "stateVector": base64, "pending": bool}
//   {"make": "diff", "updates": [base64 …], "stateVector": base64} → {"update": base64}
//   {"make": "merge", "updates": [base64 …]} → {"update": base64}
//   {"make": "versions", "seed": number} → {"versions": [base64, base64]}: of a document of every content
//   {"make": "look", "updates": [base64 …]} → all that is to be seen of such a document; see shared_types.mjs
//
// An error comes back as {"error": message}.
import * as Y from 'yjs'
import { createInterface } from 'node:readline'
import { look, randomVersions } from './shared_types.mjs'

const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'))
const text = (array) => Buffer.from(array).toString('base64')

const getters = {
  text: (doc, name) => doc.getText(name),
  map: (doc, name) => doc.getMap(name),
  array: (doc, name) => doc.getArray(name),
  xml: (doc, name) => doc.getXmlFragment(name)
}

const build = (updates) => {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, bytes(update))
  return doc
}

const makers = {
  read: ({ updates, roots = {} }) => {
    const doc = build(updates)
    const json = {}
    for (const [name, kind] of Object.entries(roots)) json[name] = getters[kind](doc, name).toJSON()
    return {
      json,
      whole: text(Y.encodeStateAsUpdate(doc)),
      stateVector: text(Y.encodeStateVector(doc)),
      pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null
    }
  },
  diff: ({ updates, stateVector }) => ({ update: text(Y.encodeStateAsUpdate(build(updates), bytes(stateVector))) }),
  versions: ({ seed }) => ({ versions: randomVersions(seed).map(text) }),
  look: ({ updates }) => look(updates.map(bytes)),
  merge: ({ updates }) => ({ update: text(Y.mergeUpdates(updates.map(bytes))) })
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const request = JSON.parse(line)
    answer = makers[request.make](request)
  } catch (error) {
    answer = { error: String(error) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
