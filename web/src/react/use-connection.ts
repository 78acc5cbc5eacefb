import { useEffect, useState } from 'react'
import type { HttpProvider } from '../provider/http-provider.js'
import type { Closed, ConnectionStatus } from '../provider/transport.js'

/** How a document stands to its file. */
export interface Connection {
  status: ConnectionStatus
  /** Whether the document is as the gateway has it. */
  synced: boolean
  /** Whether there are edits that the gateway has not acknowledged. */
  unsaved: boolean
  /** What failed last and is tried again; null as soon as it is synced. */
  error: Error | null
  /** Why it has stopped for good; null as long as it has not. */
  closed: Closed | null
}

const NOT_CONNECTED: Connection = { status: 'disconnected', synced: false, unsaved: false, error: null, closed: null }

/** How the document of a provider stands to its file, kept up to date; null: there is no provider yet. */
export function useConnection(provider: HttpProvider | null): Connection {
  const [connection, setConnection] = useState(NOT_CONNECTED)
  useEffect(() => {
    if (provider === null) return setConnection(NOT_CONNECTED)
    let error: Error | null = null
    const tell = () => {
      const { status, synced, unsaved, closed } = provider
      if (synced) error = null
      setConnection({ status, synced, unsaved, closed, error })
    }
    const failed = (reason: Error) => {
      error = reason
      tell()
    }
    const events = ['status', 'sync', 'unsaved', 'connection-close'] as const
    for (const event of events) provider.on(event, tell)
    provider.on('connection-error', failed)
    tell()
    return () => {
      for (const event of events) provider.off(event, tell)
      provider.off('connection-error', failed)
    }
  }, [provider])
  return connection
}
