import { type FormEvent, useId, useRef, useState } from 'react'
import { isProblem } from '../../src/index.js'
import { useGateway } from '../../src/react/index.js'
import { useProjectFiles } from '../files/project-files.js'
import { Failure } from '../shell/failure.js'
import { nameOf } from '../shell/format.js'
import { Icon } from '../shell/icon.js'

interface ActionsProps {
  path: string
  onOpen(path: string | null): void
}

/** The actions on the open file as a whole. */
export function Actions({ path, onOpen }: ActionsProps) {
  const { project } = useGateway()
  const { remove } = useProjectFiles()
  const [error, setError] = useState<unknown>(null)
  const download = async () => {
    const { text, type } = await contentOf()
    const url = URL.createObjectURL(new Blob([text], { type }))
    const link = Object.assign(document.createElement('a'), { href: url, download: nameOf(path) })
    link.click()
    URL.revokeObjectURL(url)
  }
  const attempt = (action: () => Promise<unknown>) => {
    setError(null)
    action().catch(setError)
  }
  return (
    <>
      <RenameButton path={path} onOpen={onOpen} />
      <button type="button" className="quiet" title="Download" aria-label="Download" onClick={() => attempt(download)}>
        <Icon name="download" />
      </button>
      <button
        type="button"
        className="quiet"
        title="Move to the bin"
        aria-label="Delete"
        onClick={() => attempt(() => remove(path).then(() => onOpen(null)))}
      >
        <Icon name="bin" />
      </button>
      <Failure error={error} />
    </>
  )

  /** The text of a text file; the roots of any other file as JSON. */
  async function contentOf(): Promise<{ text: string; type: string }> {
    try {
      return { text: (await project.readText(path)).value, type: 'text/plain' }
    } catch (error) {
      if (!isProblem(error, 'not_a_text')) throw error
      return { text: JSON.stringify((await project.readJson(path)).value, null, 2), type: 'application/json' }
    }
  }
}

function RenameButton({ path, onOpen }: ActionsProps) {
  const { move } = useProjectFiles()
  const id = useId()
  const dialog = useRef<HTMLDialogElement>(null)
  const [error, setError] = useState<unknown>(null)
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const wanted = String(new FormData(event.currentTarget).get('path')).trim().replace(/^\/+/, '')
    if (wanted === path) return dialog.current?.close()
    move(path, wanted).then(() => {
      dialog.current?.close()
      onOpen(wanted)
    }, setError)
  }
  return (
    <>
      <button
        type="button"
        className="quiet"
        title="Rename"
        aria-label="Rename"
        onClick={() => {
          setError(null)
          dialog.current?.showModal()
        }}
      >
        <Icon name="pencil" />
      </button>
      <dialog ref={dialog} className="sheet small" aria-labelledby={id}>
        <form onSubmit={submit}>
          <h2 id={id}>Rename or move</h2>
          <input key={path} name="path" defaultValue={path} aria-label="New path" required maxLength={1000} />
          <Failure error={error} />
          <div className="bar end">
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
            <button type="submit" className="main">
              Rename
            </button>
          </div>
        </form>
      </dialog>
    </>
  )
}
