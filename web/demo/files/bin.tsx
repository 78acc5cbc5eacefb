import { useMutation, useQuery } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { type DeletedFile, isProblem } from '../../src/index.js'
import { gatewayKeys, useGateway } from '../../src/react/index.js'
import { Failure } from '../shell/failure.js'
import { agoText } from '../shell/format.js'
import { Icon } from '../shell/icon.js'
import { useProjectFiles } from './project-files.js'

/** The deleted files: their last content, and a button to restore them. */
export function Bin({ onOpen }: { onOpen(path: string): void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [isShown, show] = useState(false)
  return (
    <>
      <button
        type="button"
        className="quiet"
        onClick={() => {
          show(true)
          dialog.current?.showModal()
        }}
      >
        <Icon name="bin" />
        Bin
      </button>
      <dialog ref={dialog} className="sheet" aria-label="Bin" onClose={() => show(false)}>
        {isShown && (
          <DeletedFiles
            onClose={() => dialog.current?.close()}
            onRestored={(path) => {
              dialog.current?.close()
              onOpen(path)
            }}
          />
        )}
      </dialog>
    </>
  )
}

function DeletedFiles({ onClose, onRestored }: { onClose(): void; onRestored(path: string): void }) {
  const { project } = useGateway()
  const { files: present, refresh } = useProjectFiles()
  const {
    data: files,
    error,
    refetch
  } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'deleted'],
    queryFn: ({ signal }) => deletedFiles(signal)
  })
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever a file was deleted or came back
  useEffect(() => {
    void refetch()
  }, [present?.length, refetch])
  const restore = useMutation({
    mutationFn: (file: DeletedFile) => project.restore(file.path, file.version - 1),
    onSuccess: async (_receipt, file) => {
      await refresh()
      onRestored(file.path)
    }
  })
  return (
    <>
      <div className="bar">
        <h2>Bin</h2>
        <button type="button" className="quiet" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <Failure error={error ?? restore.error} />
      {files?.length === 0 && <p className="soft">Nothing was deleted.</p>}
      <ul className="bin">
        {files?.map((file) => (
          <li key={file.path}>
            <details>
              <summary>
                <span className="name">{file.path}</span>
                <span className="soft">
                  {agoText(file.last_modified)}
                  {file.author === null ? '' : ` by ${file.author}`}
                </span>
              </summary>
              <LastText file={file} />
            </details>
            <button type="button" disabled={restore.isPending} onClick={() => restore.mutate(file)}>
              Restore
            </button>
          </li>
        ))}
      </ul>
    </>
  )

  async function deletedFiles(signal: AbortSignal): Promise<DeletedFile[]> {
    try {
      return await project.allDeleted({ signal })
    } catch (error) {
      if (isProblem(error, 'project_not_found')) return []
      throw error
    }
  }
}

function LastText({ file: { path, version } }: { file: DeletedFile }) {
  const { project } = useGateway()
  const { data: text, error } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'text', path, version - 1],
    queryFn: async ({ signal }) => {
      try {
        return (await project.readText(path, { atVersion: version - 1, signal })).value
      } catch (error) {
        if (!isProblem(error, 'not_a_text')) throw error
        return JSON.stringify((await project.readJson(path, { atVersion: version - 1, signal })).value, null, 2)
      }
    },
    staleTime: Number.POSITIVE_INFINITY
  })
  if (error !== null) return <Failure error={error} />
  // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
  return <pre tabIndex={0}>{text ?? '…'}</pre>
}
