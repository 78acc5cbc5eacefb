import { useEffect, useState } from 'react'
import type { HttpProvider } from '../provider/http-provider.js'
import type { Closed, ConnectionStatus } from '../provider/transport.js'

/** The state of the connection between a document and its file. */
export interface Connection {
  status: ConnectionStatus
  /** Whether the document is in sync with the gateway. */
  synced: boolean
  /** Whether there are edits that the gateway has not acknowledged. */
  unsaved: boolean
  /** The last error, which is being retried; null again once the document is in sync. */
  error: Error | null
  /** Why the provider has stopped permanently; null while it has not. */
  closed: Closed | null
}

const NOT_CONNECTED: Connection = { status: 'disconnected', synced: false, unsaved: false, error: null, closed: null }

/** The connection state of a provider, kept up to date. Null: there is no provider yet. */
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
