/** Full-text search in all files: one request fetches them, later requests fetch only the changes. */
import * as Y from 'yjs'
import type { Project } from '../../src/index.js'
import { type Root, TEXT_ROOT } from '../document/kind.js'
import type { ListedFile } from './project-files.js'

export interface Hit {
  path: string
  /** Starts at 1. */
  line: number
  text: string
}

const MAX_HITS = 30
const CONTEXT = 40
const EXCERPT = 120

export class TextSearch {
  private readonly texts = new Map<string, { version: number; text: string }>()

  constructor(private readonly project: Project) {}

  /** The lines that contain the words, at most 30, ignoring case. */
  async find(words: string, files: ListedFile[], signal: AbortSignal): Promise<Hit[]> {
    await this.update(files, signal)
    const wanted = words.toLowerCase()
    const hits: Hit[] = []
    for (const { path } of files) {
      const text = this.texts.get(path)?.text ?? ''
      if (!text.toLowerCase().includes(wanted)) continue
      for (const [index, line] of text.split('\n').entries()) {
        const at = line.toLowerCase().indexOf(wanted)
        if (at < 0) continue
        hits.push({ path, line: index + 1, text: excerpt(line, at) })
        if (hits.length === MAX_HITS) return hits
      }
    }
    return hits
  }

  private async update(files: ListedFile[], signal: AbortSignal): Promise<void> {
    let lacking = files.filter((file) => this.texts.get(file.path)?.version !== file.version).map((file) => file.path)
    while (lacking.length > 0) {
      const paths = lacking.slice(0, 10_000)
      const versions = Object.fromEntries(paths.map((path) => [path, 0])) // whole documents
      const { changes, more } = await this.project.sync({}, { paths, versions, signal })
      const taken = new Set<string>()
      for (const { path, version, update } of changes) {
        if (update === undefined) continue
        this.texts.set(path, { version, text: textOf(update) })
        taken.add(path)
      }
      if (taken.size === 0 || (!more && paths.length === lacking.length)) return
      lacking = lacking.filter((path) => !taken.has(path))
    }
  }
}

function excerpt(line: string, at: number): string {
  const start = at > EXCERPT - CONTEXT ? at - CONTEXT : 0
  return `${start > 0 ? '…' : ''}${line.slice(start, start + EXCERPT).trim()}`
}

/** The text of a document, including rich text. */
function textOf(update: Uint8Array): string {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, update)
  const parts: string[] = []
  for (const [name, root] of doc.share) {
    if (name === TEXT_ROOT) parts.push(doc.getText(TEXT_ROOT).toString())
    else collect(root, parts)
  }
  doc.destroy()
  return parts.join('\n')
}

/** Collect the texts within a type, each on its own line. */
function collect(type: Root, parts: string[]): void {
  let line = ''
  for (let item = type._start; item !== null; item = item.right) {
    if (item.deleted) continue
    if (item.content instanceof Y.ContentString) line += item.content.str
    else if (item.content instanceof Y.ContentType) collect(item.content.type, parts)
  }
  if (line !== '') parts.push(line)
}
