import type * as Y from 'yjs'
import type { Project } from '../project.js'

/**
 * Why a provider has stopped permanently:
 * - `deleted`: the file was deleted.
 * - `incarnation-changed`: the file was deleted and created again: the path now belongs to another file.
 * - `reset`: the gateway has lost content that this document builds on; it was restored, or is a different gateway.
 * - `refused`: the gateway refuses what is sent, or does not admit this client; `error` tells the reason.
 *
 * The document keeps its content. To continue, open a new document.
 */
export type CloseReason = 'deleted' | 'incarnation-changed' | 'reset' | 'refused'

/** Why a provider has stopped permanently, with the error that caused it, if any. */
export interface Closed {
  reason: CloseReason
  error: Error | null
}

/** The status of the connection, as in y-websocket. */
export type ConnectionStatus = 'connecting' | 'connected' | 'disconnected'

/** The interface of the provider to its transport. */
export interface TransportListener {
  statusChanged(status: ConnectionStatus): void
  syncedChanged(synced: boolean): void
  unsavedChanged(unsaved: boolean): void
  failed(error: Error): void
  closed(closed: Closed): void
}

/** The file and the document that a transport synchronizes. */
export interface Carried {
  project: Project
  path: string
  doc: Y.Doc
  /** The incarnation of the file that the document belongs to; null: not known yet. */
  incarnation: string | null
}

/** Synchronizes a document with a file. */
export interface Transport {
  readonly unsaved: boolean
  /** Handle a change that the provider did not make: a local edit, or an update from a room. */
  edited(update: Uint8Array, origin: unknown): void
  connect(): void
  disconnect(): void
  destroy(): void
  /** Poll immediately, unless the document already has this version; news arrives as an update of the document. */
  pull(version?: number): void
  /** Resolves when all local edits are acknowledged. */
  flush(): Promise<void>
}
