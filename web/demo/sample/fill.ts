/** Fills a project with the sample content, through the public API. */
import * as Y from 'yjs'
import { isProblem, type Project } from '../../src/index.js'
import { RICH_ROOT, TEXT_ROOT } from '../document/kind.js'
import { DELETED_FILE, RICH_FILE, RICH_STEPS, STORY, type StoryFile, TURN } from './texts.js'

/** Written first, and opened when the sample is complete. */
export const FIRST_FILE = 'Welcome.md'

/**
 * @param as returns the project as used by an author.
 * @returns false if another client is already filling the project.
 */
export async function fillWithSample(as: (author: string) => Project): Promise<boolean> {
  const [welcome, ...others] = STORY
  if (welcome === undefined) return false
  try {
    await write(as, welcome, true)
  } catch (error) {
    if (isProblem(error, 'precondition_failed')) return false // another window was faster
    throw error
  }
  for (const file of [...others, DELETED_FILE]) await write(as, file)
  await as('Maya').delete(DELETED_FILE.path)
  await writeRich(as)
  await converse(as('Maya'))
  return true
}

/** Write updates, so that no author is shown as present. */
async function write(as: (author: string) => Project, { path, versions }: StoryFile, create = false): Promise<void> {
  const doc = new Y.Doc()
  for (const { author, text } of versions) {
    const update = edited(doc, () => setText(doc.getText(TEXT_ROOT), text))
    await as(author).appendUpdate(path, update, { create })
  }
}

async function writeRich(as: (author: string) => Project): Promise<void> {
  const doc = new Y.Doc()
  const root = doc.getXmlFragment(RICH_ROOT)
  for (const { author, blocks } of RICH_STEPS) {
    const update = edited(doc, () => {
      for (const [kind, text] of blocks) append(root, kind, text)
    })
    await as(author).appendUpdate(RICH_FILE, update)
  }
}

async function converse(project: Project): Promise<void> {
  const session = await project.createSession(TURN.title)
  const turn = await project.createTurn(session.id, TURN.prompt)
  await project.appendBlocks(session.id, turn.id, TURN.blocks)
  await project.setTurnStatus(session.id, turn.id, 'completed')
}

/** The update of an edit to a document. */
function edited(doc: Y.Doc, edit: () => void): Uint8Array {
  const before = Y.encodeStateVector(doc)
  doc.transact(edit)
  return Y.encodeStateAsUpdate(doc, before)
}

/** Replace only the range between the common prefix and suffix. */
function setText(root: Y.Text, text: string): void {
  const before = root.toString()
  let start = 0
  while (start < Math.min(before.length, text.length) && before[start] === text[start]) start += 1
  let end = 0
  const rest = Math.min(before.length, text.length) - start
  while (end < rest && before[before.length - 1 - end] === text[text.length - 1 - end]) end += 1
  root.delete(start, before.length - start - end)
  root.insert(start, text.slice(start, text.length - end))
}

function append(root: Y.XmlFragment, kind: 'h1' | 'h2' | 'p' | 'li', text: string): void {
  if (kind !== 'li') {
    const block = new Y.XmlElement<{ level: number }>(kind === 'p' ? 'paragraph' : 'heading')
    if (kind !== 'p') block.setAttribute('level', Number(kind.slice(1)))
    block.insert(0, [formatted(text)])
    root.push([block as Y.XmlElement])
    return
  }
  const last = root.length > 0 ? root.get(root.length - 1) : null
  const isList = last instanceof Y.XmlElement && last.nodeName === 'bulletList'
  const list = isList ? last : new Y.XmlElement('bulletList')
  if (!isList) root.push([list])
  const [item, paragraph] = [new Y.XmlElement('listItem'), new Y.XmlElement('paragraph')]
  paragraph.insert(0, [formatted(text)])
  item.insert(0, [paragraph])
  list.push([item])
}

/** Format words in `*` as bold. */
function formatted(text: string): Y.XmlText {
  const made = new Y.XmlText()
  made.applyDelta(
    text
      .split('*')
      .map((insert, index) => ({ insert, attributes: index % 2 === 1 ? { bold: {} } : {} }))
      .filter(({ insert }) => insert !== '')
  )
  return made
}
