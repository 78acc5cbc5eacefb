import { createContext, type ReactNode, useContext, useEffect, useMemo, useRef, useState } from 'react'
import { type DocumentChange, DocumentPoller } from '../../src/index.js'
import { useGateway } from '../../src/react/index.js'

export interface ListedFile {
  path: string
  version: number
}

export interface ProjectFiles {
  /** Ordered by path; undefined until the list is loaded. */
  files: ListedFile[] | undefined
  error: Error | null
  /** Move a file to another path. */
  move(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  /** Poll immediately. */
  refresh(): Promise<void>
}

const FilesContext = createContext<ProjectFiles | null>(null)

/**
 * Follows the files of the project, once for the whole page: the first answer of the feed is the list, and later
 * answers contain the changes. The list is never fetched again.
 */
export function ProjectFilesProvider({ children }: { children: ReactNode }) {
  const { project, manager, transport } = useGateway()
  const [files, setFiles] = useState<ListedFile[]>()
  const [error, setError] = useState<Error | null>(null)
  const poller = useRef<DocumentPoller | null>(null)
  useEffect(() => {
    const known = new Map<string, number>()
    const show = () => setFiles([...known].map(([path, version]) => ({ path, version })).sort(byPath))
    const take = (changes: DocumentChange[]) => {
      for (const { filePath, version, changeType } of changes) {
        if (changeType === 'deleted') known.delete(filePath)
        else known.set(filePath, version)
      }
      show()
    }
    const started = new DocumentPoller(project, null, take, {
      manager,
      transport,
      onError: setError,
      onRecover: () => setError(null)
    })
    poller.current = started
    started.refresh().then(show, () => undefined) // settles even if the project has no files
    return () => started.stop()
  }, [project, manager, transport])
  const value = useMemo<ProjectFiles>(() => {
    const refresh = async () => poller.current?.refresh()
    return {
      files,
      error,
      refresh,
      move: async (from, to) => {
        await project.move(from, to)
        await refresh()
      },
      remove: async (path) => {
        await project.delete(path)
        await refresh()
      }
    }
  }, [files, error, project])
  return <FilesContext value={value}>{children}</FilesContext>
}

export function useProjectFiles(): ProjectFiles {
  const files = useContext(FilesContext)
  if (files === null) throw new Error('there is no <ProjectFilesProvider> around this component')
  return files
}

function byPath(one: ListedFile, other: ListedFile): number {
  return one.path < other.path ? -1 : 1
}
