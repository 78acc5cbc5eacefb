import { useCallback, useEffect, useMemo, useReducer, useState, useSyncExternalStore } from 'react'
import { pathProblem } from '../names.js'
import type { ProviderTransport } from '../provider/http-provider.js'
import type { Closed } from '../provider/transport.js'
import type { DocumentUse, OpenDocument } from './document-store.js'
import { useGateway } from './gateway-provider.js'

/** The options of `useDocument`. */
export interface DocumentOptions {
  /** Default: the document transport of `<GatewayProvider>`. */
  transport?: ProviderTransport
}

/** A file as a live document. Until it is open, `doc`, `provider` and `status` are null, and `synced` is false. */
export type LiveDocument = { [Name in keyof OpenDocument]: OpenDocument[Name] | null } & {
  synced: boolean
  unsaved: boolean
  /** Reopen the document after it was `closed`, with the current content of the gateway. */
  reopen(): void
}

const NOT_OPEN = { doc: null, provider: null, synced: false, status: null, unsaved: false, closed: null }

/** A file as a live Y.Doc. Components that use the same file share one document; after its last use it is closed. */
export function useDocument(path: string, { transport: wanted }: DocumentOptions = {}): LiveDocument {
  const { documents, documentTransport: usual } = useGateway()
  const transport = wanted ?? usual
  const [use, setUse] = useState<DocumentUse | null>(null)
  const [opened, reopen] = useReducer((count: number) => count + 1, 0)
  const invalid = useMemo(() => pathProblem(path), [path])
  // biome-ignore lint/correctness/useExhaustiveDependencies: `opened` asks for a new one
  useEffect(() => {
    if (invalid !== null) return
    const use = documents.use(path, transport)
    setUse(use)
    return () => {
      setUse(null)
      use.release()
    }
  }, [documents, path, transport, opened, invalid])
  const subscribe = useCallback((listener: () => void) => use?.subscribe(listener) ?? (() => undefined), [use])
  const state = useSyncExternalStore<OpenDocument | typeof NOT_OPEN>(
    subscribe,
    () => use?.state() ?? NOT_OPEN,
    () => NOT_OPEN
  )
  const closed: Closed | null = invalid === null ? state.closed : { reason: 'refused', error: invalid }
  return { ...state, closed, reopen }
}
