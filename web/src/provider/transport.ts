import type * as Y from 'yjs'
import type { Project } from '../project.js'

/**
 * Why a provider has stopped for good:
 * - `deleted`: the file was deleted.
 * - `incarnation-changed`: the file was deleted and created again: this is another one under the same path.
 * - `reset`: the gateway has lost what this document builds on; it was restored, or is another one.
 * - `refused`: the gateway does not take what is sent, or does not let this client in; `error` says which.
 *
 * The document keeps everything. Where it is to go on, open a new one.
 */
export type CloseReason = 'deleted' | 'incarnation-changed' | 'reset' | 'refused'

export interface Closed {
  reason: CloseReason
  error: Error | null
}

export type ConnectionStatus = 'connecting' | 'connected' | 'disconnected'

/** Whom a transport tells: the provider. */
export interface TransportListener {
  statusChanged(status: ConnectionStatus): void
  syncedChanged(synced: boolean): void
  unsavedChanged(unsaved: boolean): void
  failed(error: Error): void
  closed(closed: Closed): void
}

/** What a transport carries: one file, one document. */
export interface Carried {
  project: Project
  path: string
  doc: Y.Doc
  /** The life of the file that the document is of; null: not known yet. */
  incarnation: string | null
}

/** How a document is kept the same as a file. */
export interface Transport {
  readonly unsaved: boolean
  /** A change that the provider did not make: a local edit, or what a room brought. */
  edited(update: Uint8Array, origin: unknown): void
  connect(): void
  disconnect(): void
  destroy(): void
  /** Ask now whether there is something new, unless this version is here; it comes as an update of the document. */
  pull(version?: number): void
  /** Resolves when all local edits are acknowledged. */
  flush(): Promise<void>
}
