import * as Y from 'yjs'
import type { PollingManager } from '../polling/manager.js'
import type { Project } from '../project.js'
import { HttpProvider, type ProviderTransport } from '../provider/http-provider.js'
import type { Closed, ConnectionStatus } from '../provider/transport.js'

/** The state of an open document; a new object whenever the state changes. */
export interface OpenDocument {
  doc: Y.Doc
  provider: HttpProvider
  /** Whether the document is in sync with the gateway. */
  synced: boolean
  status: ConnectionStatus
  /** Whether there are edits that the gateway has not acknowledged. */
  unsaved: boolean
  /** Why the document is no longer synchronized with its file; null while it is. */
  closed: Closed | null
}

/** One component's use of an open document. */
export interface DocumentUse {
  state(): OpenDocument
  /** Call `listener` whenever the state changes; returns a function that ends this. */
  subscribe(listener: () => void): () => void
  /** End the use. After its last use the document is closed, once all edits are stored. */
  release(): void
}

interface Entry {
  key: string
  path: string
  uses: number
  state: OpenDocument
  listeners: Set<() => void>
}

/** The open documents, one per file, shared by all components. */
export class DocumentStore {
  private readonly entries = new Map<string, Entry>()

  constructor(
    private readonly project: Project,
    private readonly manager: PollingManager
  ) {}

  /** Open a document, or use the open one. A document that was closed permanently is not reused. */
  use(path: string, transport: ProviderTransport): DocumentUse {
    const key = `${transport} ${path}`
    const open = this.entries.get(key)
    const entry = open === undefined || open.state.closed !== null ? this.open(key, path, transport) : open
    entry.uses += 1
    let released = false
    return {
      state: () => entry.state,
      subscribe: (listener) => {
        entry.listeners.add(listener)
        return () => entry.listeners.delete(listener)
      },
      release: () => {
        if (released) return
        released = true
        entry.uses -= 1
        // A component that is remounted immediately, as in strict mode, finds the document still open.
        queueMicrotask(() => void this.closeUnused(entry))
      }
    }
  }

  /** Fetch a version of a file now, if the file is open and does not have the version. */
  pull(path: string, version: number): void {
    for (const entry of this.entries.values()) {
      if (entry.path === path) entry.state.provider.pull(version)
    }
  }

  private open(key: string, path: string, transport: ProviderTransport): Entry {
    const doc = new Y.Doc()
    const { client, name } = this.project
    const provider = new HttpProvider(client, name, path, doc, { transport, manager: this.manager, connect: false })
    const entry: Entry = { key, path, uses: 0, state: stateOf(doc, provider), listeners: new Set() }
    const changed = () => {
      entry.state = stateOf(doc, provider)
      for (const listener of [...entry.listeners]) listener()
    }
    for (const event of ['sync', 'status', 'unsaved', 'connection-close'] as const) provider.on(event, changed)
    provider.connect()
    this.entries.set(key, entry)
    return entry
  }

  private async closeUnused(entry: Entry): Promise<void> {
    if (entry.uses > 0) return
    const { provider, doc } = entry.state
    await provider.flush().catch(() => undefined) // refused: the edits cannot be stored
    if (entry.uses > 0) return
    if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key)
    provider.destroy()
    doc.destroy()
  }
}

function stateOf(doc: Y.Doc, provider: HttpProvider): OpenDocument {
  const { synced, status, unsaved, closed } = provider
  return { doc, provider, synced, status, unsaved, closed }
}
