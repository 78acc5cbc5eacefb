import * as Y from 'yjs'
import type { Project } from '../../src/index.js'
import { TEXT_ROOT } from '../document/kind.js'

/** Writes to a file as agents do: each edit has the version that it is based on, and the gateway merges it. */
export class Pen {
  private readonly doc = new Y.Doc()
  private version = 0

  private constructor(
    private readonly project: Project,
    readonly path: string
  ) {}

  static async open(project: Project, path: string): Promise<Pen> {
    const pen = new Pen(project, path)
    await pen.read()
    return pen
  }

  /** The text after the last edit, or after `open`. */
  get text(): string {
    return this.root.toString()
  }

  /** Replace a range by words, one after another, awaiting `pause` after each word. */
  async write(start: number, end: number, words: string[], pause: () => Promise<void>): Promise<void> {
    let place = this.placeAt(start)
    if (end > start) {
      await this.edit(start, end, '')
      place = this.placeAt(start)
    }
    for (const word of words) {
      const index = Y.createAbsolutePositionFromRelativePosition(place, this.doc)?.index ?? this.root.length
      await this.edit(index, index, word)
      await pause()
    }
  }

  /** A position that keeps its right neighbour, regardless of concurrent edits. */
  private placeAt(index: number): Y.RelativePosition {
    return Y.createRelativePositionFromTypeIndex(this.root, index)
  }

  private async edit(start: number, end: number, text: string): Promise<void> {
    await this.project.editText(this.path, [{ start, end, text }], { baseVersion: this.version })
    await this.read()
  }

  private async read(): Promise<void> {
    const { update, version } = await this.project.readUpdate(this.path, { fromVersion: this.version })
    if (update !== null) Y.applyUpdate(this.doc, update)
    this.version = version
  }

  private get root(): Y.Text {
    return this.doc.getText(TEXT_ROOT)
  }
}
