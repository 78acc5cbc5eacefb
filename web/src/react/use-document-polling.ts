import { useQueryClient } from '@tanstack/react-query'
import { useCallback, useMemo, useState } from 'react'
import { type DocumentChange, DocumentPoller } from '../document-poller.js'
import { useGateway, useProject } from './gateway-provider.js'
import { gatewayKeys } from './keys.js'
import { type PollingState, type StartPoller, useLatest, usePoller } from './use-poller.js'

export interface DocumentPollingOptions {
  /** Left out: the project of `<GatewayProvider>`. */
  projectId?: string
  /** The files to follow; left out: all of the project. */
  filePaths?: readonly string[]
  enabled?: boolean
  /** Milliseconds. */
  interval?: number
  onDocumentChange?: (change: DocumentChange) => void
  onError?: (error: Error) => void
}

export interface DocumentPolling extends PollingState {
  /** What has changed since the component is there: each file once, with its newest state. */
  data: DocumentChange[]
}

/**
 * Follow which files change. Documents that are open on them (`useDocument`) are brought up to date, and lists of files
 * (`useFiles`) are read again.
 */
export function useDocumentPolling({
  projectId,
  filePaths,
  enabled = true,
  interval,
  onDocumentChange,
  onError
}: DocumentPollingOptions = {}): DocumentPolling {
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
      const take = (change: DocumentChange) => {
        setData((before) => [...before.filter((each) => each.filePath !== change.filePath), change])
        if (project === own) documents.pull(change.filePath)
        void queryClient.invalidateQueries({ queryKey: gatewayKeys.allFiles(project) })
        tell.current?.(change)
      }
      return new DocumentPoller(project, paths, take, { ...callbacks, manager, transport, interval })
    },
    [project, own, documents, manager, transport, paths, interval, queryClient, tell]
  )
  return { data, ...usePoller(enabled ? start : null, onError) }
}
