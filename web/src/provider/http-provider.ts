import { ObservableV2 } from 'lib0/observable'
import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { GatewayClient, type GatewayClientOptions } from '../client.js'
import { checkedPath } from '../names.js'
import { type PollingManager, pollingManager } from '../polling/manager.js'
import type { PollTransport } from '../polling/project-feed.js'
import { Project } from '../project.js'
import type { Sender } from '../request.js'
import { HttpTransport } from './http-transport.js'
import { SharedAwareness } from './shared-awareness.js'
import type { Carried, Closed, ConnectionStatus, Transport, TransportListener } from './transport.js'
import { WebsocketTransport } from './websocket-transport.js'

/**
 * How a document is synchronized with its file. `auto` uses server-sent events, and falls back to polling if they do
 * not work.
 */
export type ProviderTransport = PollTransport | 'websocket'

/** The options of a provider; all are optional. */
export interface HttpProviderOptions extends GatewayClientOptions {
  transport?: ProviderTransport
  /** Whether to connect immediately; default true. False: wait for `connect()`. */
  connect?: boolean
  /** Milliseconds between polls while nothing changes. */
  interval?: number
  /** Edits within this many milliseconds are sent as one update. */
  batchMs?: number
  manager?: PollingManager
  /** The awareness to share. Default: a new one. */
  awareness?: Awareness
  /** The incarnation of the file that a document kept elsewhere belongs to (`HttpProvider.incarnation`). */
  incarnation?: string | null
  /** The class for `websocket`, on platforms without a global `WebSocket`. */
  WebSocket?: typeof WebSocket
}

/** All arguments of a provider as one object. */
export interface HttpProviderConfiguration extends HttpProviderOptions {
  /** The base URL of the gateway, or a client for it, whose credentials are then used. */
  url: string | Sender
  /** The id of the project. */
  project: string
  path: string
  /** Default: a new document. */
  doc?: Y.Doc
}

/** A type, not an interface: `ObservableV2` requires an index signature. */
export type HttpProviderEvents = {
  /** Whether the document is in sync with the gateway, as far as known. */
  sync: (synced: boolean) => void
  /** The same event under the name that y-websocket also uses. */
  synced: (synced: boolean) => void
  status: (event: { status: ConnectionStatus }) => void
  /** Whether there are edits that the gateway has not acknowledged. */
  unsaved: (unsaved: boolean) => void
  /** An attempt failed and will be retried. */
  'connection-error': (error: Error, provider: HttpProvider) => void
  /** The provider has stopped permanently. */
  'connection-close': (closed: Closed, provider: HttpProvider) => void
  destroy: (provider: HttpProvider) => void
}

/**
 * Synchronizes a Y.Doc with a file over plain HTTP.
 *
 * Edits are sent in batches and kept until the gateway has acknowledged them; edits made offline are sent later. The
 * first edit creates a file that does not exist yet.
 */
export class HttpProvider extends ObservableV2<HttpProviderEvents> {
  synced = false
  status: ConnectionStatus = 'disconnected'
  /** Why the provider has stopped permanently; null if it has not. */
  closed: Closed | null = null
  private readonly transport: Transport
  private readonly carried: Carried
  private readonly ownsAwareness: boolean
  private readonly ownAwareness: Awareness
  /** Shares the awareness through requests if the transport does not carry it. */
  private readonly shared: SharedAwareness | null
  private isConnected = false
  private usesAwareness: boolean

  readonly path: string
  readonly doc: Y.Doc

  /** @throws ProblemAnswer `invalid_project` or `invalid_path`, before anything is sent. */
  constructor(configuration: HttpProviderConfiguration)
  /**
   * @param url the base URL of the gateway, or a client for it, whose credentials are then used.
   * @param project the id of the project.
   * @throws ProblemAnswer `invalid_project` or `invalid_path`, before anything is sent.
   */
  constructor(url: string | Sender, project: string, path: string, doc: Y.Doc, options?: HttpProviderOptions)
  constructor(...given: ConstructorArguments) {
    super()
    const { url, project, path, doc, ...options } = configurationOf(given)
    this.path = path
    this.doc = doc
    const client = typeof url === 'string' ? new GatewayClient(url, options) : url
    checkedPath(path)
    this.carried = { project: new Project(client, project), path, doc, incarnation: options.incarnation ?? null }
    this.ownsAwareness = options.awareness === undefined
    const isRoom = options.transport === 'websocket'
    this.ownAwareness = options.awareness ?? (isRoom ? new Awareness(doc) : quietAwareness(doc))
    this.usesAwareness = !this.ownsAwareness
    this.shared = isRoom ? null : this.makeShared(options)
    this.transport = this.makeTransport(options)
    doc.on('update', this.docUpdated)
    doc.on('destroy', this.docDestroyed)
    if (options.connect !== false) this.connect()
  }

  /** The incarnation of the file that the document belongs to; null while the file does not exist. */
  get incarnation(): string | null {
    return this.carried.incarnation
  }

  /**
   * The awareness of the file, shared with all its clients. Without a room this takes requests, which start when the
   * awareness is first accessed.
   */
  get awareness(): Awareness {
    if (!this.usesAwareness) {
      this.usesAwareness = true
      if (this.isConnected) this.shared?.connect()
    }
    return this.ownAwareness
  }

  /** Whether there are edits that the gateway has not acknowledged. */
  get unsaved(): boolean {
    return this.transport.unsaved
  }

  /**
   * Connect, or reconnect after `disconnect`. A provider that has stopped permanently reconnects only if it was
   * refused.
   */
  connect(): void {
    if (this.closed !== null && this.closed.reason !== 'refused') return
    this.closed = null
    this.isConnected = true
    this.transport.connect()
    if (this.usesAwareness) this.shared?.connect()
  }

  /** Send no requests until `connect`. Edits are kept. */
  disconnect(): void {
    this.isConnected = false
    this.shared?.disconnect()
    this.transport.disconnect()
  }

  /** Poll immediately, unless the document already has this version; news arrives as an update of the document. */
  pull(version?: number): void {
    this.transport.pull(version)
  }

  /** Send edits immediately; resolves when all are acknowledged. */
  flush(): Promise<void> {
    return this.transport.flush()
  }

  /** Stop the provider: no timer, request or listener remains. Unacknowledged edits stay in the document. */
  override destroy(): void {
    this.doc.off('update', this.docUpdated)
    this.doc.off('destroy', this.docDestroyed)
    this.isConnected = false
    this.shared?.disconnect()
    this.transport.destroy()
    if (this.ownsAwareness) this.ownAwareness.destroy()
    this.emit('destroy', [this])
    super.destroy()
  }

  private makeTransport(options: HttpProviderOptions): Transport {
    const { transport = 'auto', manager = pollingManager, interval, batchMs = 50 } = options
    if (transport !== 'websocket') {
      return new HttpTransport(this.carried, this.listener(), {
        manager,
        transport,
        interval,
        batchMs,
        origin: this
      })
    }
    const { settings } = manager
    return new WebsocketTransport(this.carried, this.listener(), {
      awareness: this.ownAwareness,
      settings,
      WebSocket: options.WebSocket
    })
  }

  private makeShared({ transport = 'auto', manager = pollingManager, interval }: HttpProviderOptions): SharedAwareness {
    const how = transport === 'websocket' ? 'poll' : transport
    return new SharedAwareness(this.carried, this.ownAwareness, { manager, transport: how, interval })
  }

  private listener(): TransportListener {
    return {
      statusChanged: (status) => {
        if (status === this.status) return
        this.status = status
        this.emit('status', [{ status }])
      },
      syncedChanged: (synced) => {
        if (synced === this.synced) return
        this.synced = synced
        this.emit('sync', [synced])
        this.emit('synced', [synced])
      },
      unsavedChanged: (unsaved) => this.emit('unsaved', [unsaved]),
      failed: (error) => this.emit('connection-error', [error, this]),
      closed: (closed) => {
        this.closed = closed
        this.isConnected = false
        this.shared?.disconnect()
        this.emit('connection-close', [closed, this])
      }
    }
  }

  private readonly docUpdated = (update: Uint8Array, origin: unknown): void => {
    if (origin !== this && this.closed === null) this.transport.edited(update, origin)
  }

  private readonly docDestroyed = (): void => this.destroy()
}

type ConstructorArguments =
  | [configuration: HttpProviderConfiguration]
  | [url: string | Sender, project: string, path: string, doc: Y.Doc, options?: HttpProviderOptions]

function configurationOf(given: ConstructorArguments): HttpProviderConfiguration & { doc: Y.Doc } {
  if (given.length === 1) return { ...given[0], doc: given[0].doc ?? new Y.Doc() }
  const [url, project, path, doc, options] = given
  return { ...options, url, project, path, doc }
}

/** An awareness without a timer: its sharer renews the local state, and learns who has left. */
function quietAwareness(doc: Y.Doc): Awareness {
  const awareness = new Awareness(doc)
  clearInterval(awareness._checkInterval)
  return awareness
}
