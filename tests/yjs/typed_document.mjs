// What traces are typed into, and in which order two authors typed.
import * as Y from 'yjs'

const isAscii = (text) => /^[\0-\x7f]*$/.test(text)

// A document that a trace is typed into. Traces count code points, Yjs counts UTF-16 code units.
export class TypedDocument {
  constructor (clientID) {
    this.doc = new Y.Doc()
    this.doc.clientID = clientID
    this.text = this.doc.getText('content')
    this.ascii = true
  }

  type (patches) {
    for (const [position, deleted, inserted] of patches) {
      const content = this.ascii ? '' : this.text.toString()
      const start = this._unit(content, 0, position)
      const length = this._unit(content, start, deleted) - start
      if (length > 0) this.text.delete(start, length)
      if (inserted !== '') this.text.insert(start, inserted)
      this.ascii &&= isAscii(inserted)
    }
  }

  receive (update) {
    Y.applyUpdate(this.doc, update, 'gateway')
    this.ascii &&= isAscii(this.text.toString())
  }

  // The code unit so many code points behind another one.
  _unit (content, from, codePoints) {
    if (this.ascii) return from + codePoints
    let unit = from
    for (let left = codePoints; left > 0; left--) unit += content.codePointAt(unit) > 0xffff ? 2 : 1
    return unit
  }
}

// How many of the other author's transactions each transaction was typed after.
export const neededOfOther = (txns) => {
  const behind = [] // for each transaction, how many of each author's are behind it, itself included
  const typed = [0, 0]
  return txns.map(({ parents, agent }, index) => {
    const counts = [0, 1].map((author) => Math.max(0, ...parents.map((parent) => behind[parent][author])))
    if (counts[agent] !== typed[agent]) throw new Error(`transaction ${index} is not typed after its author's last`)
    const needed = counts[1 - agent]
    counts[agent] = ++typed[agent]
    behind.push(counts)
    return needed
  })
}
