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

/** How a document is kept the same as its file. `auto` is server-sent events, or what works where they do not. */
export type ProviderTransport = PollTransport | 'websocket'

export interface HttpProviderOptions extends GatewayClientOptions {
  transport?: ProviderTransport
  /** False: wait for `connect()`. */
  connect?: boolean
  /** Milliseconds between polls where nothing happens. */
  interval?: number
  /** Edits that come within so many milliseconds are sent as one. */
  batchMs?: number
  manager?: PollingManager
  /** Left out: one of its own. */
  awareness?: Awareness
  /** Of which life of the file a document is that was kept elsewhere (`HttpProvider.incarnation`). */
  incarnation?: string | null
  /** For `websocket` where the platform has none. */
  WebSocket?: typeof WebSocket
}

/** What a provider is of, and how it is to be, as one object. */
export interface HttpProviderConfiguration extends HttpProviderOptions {
  /** Where the gateway is, or a client for it, whose credentials are then used. */
  url: string | Sender
  /** Its name. */
  project: string
  path: string
  /** Left out: a new one. */
  doc?: Y.Doc
}

/** As type, not interface: `ObservableV2` asks for an index. */
export type HttpProviderEvents = {
  /** Whether the document is what the gateway has, as far as known. */
  sync: (synced: boolean) => void
  /** The same, as y-websocket says it too. */
  synced: (synced: boolean) => void
  status: (event: { status: ConnectionStatus }) => void
  /** Whether there are edits that the gateway has not acknowledged. */
  unsaved: (unsaved: boolean) => void
  /** Something failed and is tried again. */
  'connection-error': (error: Error, provider: HttpProvider) => void
  /** The provider has stopped for good. */
  'connection-close': (closed: Closed, provider: HttpProvider) => void
  destroy: (provider: HttpProvider) => void
}

/**
 * Keeps a Y.Doc the same as a file, over plain HTTP.
 *
 * Edits are sent in batches and kept until they are acknowledged; made offline they are sent later. A file that does
 * not exist yet comes into being with the first edit.
 */
export class HttpProvider extends ObservableV2<HttpProviderEvents> {
  synced = false
  status: ConnectionStatus = 'disconnected'
  /** Why it has stopped for good; null if it has not. */
  closed: Closed | null = null
  private readonly transport: Transport
  private readonly carried: Carried
  private readonly ownsAwareness: boolean
  private readonly ownAwareness: Awareness
  /** Shares the awareness where the transport does not. */
  private readonly shared: SharedAwareness | null
  private isConnected = false
  private usesAwareness: boolean

  readonly path: string
  readonly doc: Y.Doc

  /** @throws ProblemAnswer `invalid_project` or `invalid_path`, before anything is sent. */
  constructor(configuration: HttpProviderConfiguration)
  /**
   * @param url where the gateway is, or a client for it, whose credentials are then used.
   * @param project its name.
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

  /** The life of the file that the document is of; null as long as there is no file. */
  get incarnation(): string | null {
    return this.carried.incarnation
  }

  /**
   * Who is in the file, as editors tell of it: shared with all clients of the file. Without a room that takes requests,
   * which begin when somebody asks for the awareness.
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

  /** Begin, or go on after `disconnect`. A provider that has stopped for good stays so, but where it was refused. */
  connect(): void {
    if (this.closed !== null && this.closed.reason !== 'refused') return
    this.closed = null
    this.isConnected = true
    this.transport.connect()
    if (this.usesAwareness) this.shared?.connect()
  }

  /** Neither ask nor send until `connect`. Edits are kept. */
  disconnect(): void {
    this.isConnected = false
    this.shared?.disconnect()
    this.transport.disconnect()
  }

  /** Ask now whether there is something new, unless this version is here; it comes as an update of the document. */
  pull(version?: number): void {
    this.transport.pull(version)
  }

  /** Send edits now; resolves when all are acknowledged. */
  flush(): Promise<void> {
    return this.transport.flush()
  }

  /** End it. Nothing is left: no timer, no request, no listener. Edits that were not acknowledged stay in the document. */
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

/** An awareness without a timer: who shares it tells others that one is still there, and hears who has left. */
function quietAwareness(doc: Y.Doc): Awareness {
  const awareness = new Awareness(doc)
  clearInterval(awareness._checkInterval)
  return awareness
}
