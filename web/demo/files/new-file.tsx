import { type FormEvent, useRef, useState } from 'react'
import * as Y from 'yjs'
import { useGateway } from '../../src/react/index.js'
import { RICH_ROOT, TEXT_ROOT } from '../document/kind.js'
import { Failure } from '../shell/failure.js'
import { nameOf } from '../shell/format.js'
import { Icon } from '../shell/icon.js'
import { useProjectFiles } from './project-files.js'

interface NewFileProps {
  onOpen(path: string): void
}

/** Creates a text or rich-text file, or opens the file if the path exists. */
export function NewFile({ onOpen }: NewFileProps) {
  const { project } = useGateway()
  const { files, refresh } = useProjectFiles()
  const dialog = useRef<HTMLDialogElement>(null)
  const [error, setError] = useState<unknown>(null)
  const create = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const form = event.currentTarget
    const given = new FormData(form)
    const path = String(given.get('path')).trim().replace(/^\/+/, '')
    try {
      if (!files?.some((file) => file.path === path)) {
        const update = given.get('kind') === 'rich' ? richDocument(path) : textDocument(path)
        await project.appendUpdate(path, update, { create: true })
        await refresh()
      }
      form.reset()
      dialog.current?.close()
      onOpen(path)
    } catch (error) {
      setError(error)
    }
  }
  return (
    <>
      <button
        type="button"
        className="main"
        aria-label="New file"
        onClick={() => {
          setError(null)
          dialog.current?.showModal()
        }}
      >
        <Icon name="plus" />
        New
      </button>
      <dialog ref={dialog} className="sheet small" aria-label="New file">
        <form onSubmit={(event) => void create(event)}>
          <h2>New file</h2>
          <input
            name="path"
            placeholder="notes/ideas.md"
            aria-label="Path of the new file"
            required
            maxLength={1000}
            autoComplete="off"
          />
          <fieldset className="choice">
            <legend className="hidden">Kind</legend>
            <label>
              <input type="radio" name="kind" value="text" defaultChecked />
              <span>
                <b>Text</b> Markdown, code, anything
              </span>
            </label>
            <label>
              <input type="radio" name="kind" value="rich" />
              <span>
                <b>Rich document</b> headings, lists, bold
              </span>
            </label>
          </fieldset>
          <Failure error={error} />
          <div className="bar end">
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
            <button type="submit" className="main">
              Create
            </button>
          </div>
        </form>
      </dialog>
    </>
  )
}

/** A new Markdown file starts with its name as heading. */
function textDocument(path: string): Uint8Array {
  const doc = new Y.Doc()
  doc.getText(TEXT_ROOT).insert(0, path.endsWith('.md') ? `# ${titleOf(path)}\n\n` : '\n')
  return Y.encodeStateAsUpdate(doc)
}

function richDocument(path: string): Uint8Array {
  const doc = new Y.Doc()
  const heading = new Y.XmlElement<{ level: number }>('heading')
  heading.setAttribute('level', 1)
  heading.insert(0, [new Y.XmlText(titleOf(path))])
  doc.getXmlFragment(RICH_ROOT).insert(0, [heading as Y.XmlElement, new Y.XmlElement('paragraph')])
  return Y.encodeStateAsUpdate(doc)
}

function titleOf(path: string): string {
  const name = nameOf(path)
    .replace(/\.[^.]*$/, '')
    .replaceAll(/[-_]+/g, ' ')
  return name.charAt(0).toUpperCase() + name.slice(1)
}
