import { useQueryClient } from '@tanstack/react-query'
import { useCallback, useMemo, useState } from 'react'
import type { DocumentChange } from '../polling/changed-files.js'
import { DocumentPoller } from '../polling/document-poller.js'
import { gatewayKeys } from '../queries/keys.js'
import type { FileEntry } from '../wire.js'
import { useGateway, useProject } from './gateway-provider.js'
import { type PollingState, type StartPoller, useLatest, usePoller } from './use-poller.js'

/** The options of `useDocumentPolling`; all are optional. */
export interface UseDocumentPollingOptions {
  /** Default: the project of `<GatewayProvider>`. */
  projectId?: string
  /** The files to follow. Default: all files of the project. */
  filePaths?: readonly string[]
  enabled?: boolean
  /** Milliseconds; default 3,000. */
  interval?: number
  /** Whether every existing file is first reported as created; default true. */
  initial?: boolean
  /** Called once per answer with news, with the newest state of each changed file. */
  onDocumentChange?: (changes: DocumentChange[]) => void
  onError?: (error: Error) => void
}

/** The result of `useDocumentPolling`. */
export interface DocumentPolling extends PollingState {
  /** The changes since the component was mounted: each file once, with its newest state. */
  data: DocumentChange[]
}

/**
 * Follow which files change. Open documents of these files (`useDocument`) are updated, and lists of files (`useFiles`)
 * are read again.
 */
export function useDocumentPolling({
  projectId,
  filePaths,
  enabled = true,
  interval,
  initial = true,
  onDocumentChange,
  onError
}: UseDocumentPollingOptions = {}): DocumentPolling {
  const { manager, transport, documents, project: own } = useGateway()
  const project = useProject(projectId)
  const queryClient = useQueryClient()
  const [data, setData] = useState<DocumentChange[]>([])
  const tell = useLatest(onDocumentChange)
  const wanted = filePaths && JSON.stringify(filePaths)
  const paths = useMemo<string[] | null>(() => (wanted === undefined ? null : JSON.parse(wanted)), [wanted])
  const start = useCallback<StartPoller>(
    (callbacks) => {
      setData([])
      const take = (changes: DocumentChange[]) => {
        const changed = new Set(changes.map((change) => change.filePath))
        setData((before) => [...before.filter((each) => !changed.has(each.filePath)), ...changes])
        if (project === own) for (const { filePath, version } of changes) documents.pull(filePath, version)
        void queryClient.invalidateQueries({
          queryKey: gatewayKeys.allFiles(project),
          predicate: ({ queryKey, state }) => isOutdated(state.data as FileEntry[] | undefined, queryKey[3], changes)
        })
        tell.current?.(changes)
      }
      return new DocumentPoller(project, paths, take, { ...callbacks, manager, transport, interval, initial })
    },
    [project, own, documents, manager, transport, paths, interval, initial, queryClient, tell]
  )
  return { data, ...usePoller(enabled ? start : null, onError) }
}

/** Whether a change makes a list of the files whose paths begin with a prefix outdated. */
function isOutdated(files: FileEntry[] | undefined, prefix: unknown, changes: DocumentChange[]): boolean {
  if (files === undefined) return true
  const versions = new Map(files.map((file) => [file.path, file.version]))
  return changes.some(({ filePath, version, changeType }) => {
    if (!filePath.startsWith(String(prefix))) return false
    const listed = versions.get(filePath)
    return changeType === 'deleted' ? listed !== undefined && listed <= version : (listed ?? 0) < version
  })
}
