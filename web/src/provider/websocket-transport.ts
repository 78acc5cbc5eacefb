import type { Awareness } from 'y-protocols/awareness'
import type { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { GatewayError, isProblem } from '../errors.js'
import { sleep } from '../feed.js'
import { encodedPath } from '../names.js'
import { isRetried, type PollSettings, retryDelayMs } from '../policy.js'
import type { Carried, Closed, Transport, TransportListener } from './transport.js'

export interface WebsocketTransportOptions {
  awareness: Awareness
  settings: PollSettings
  WebSocket: typeof WebSocket | undefined
}

/** Close codes after which reconnecting is useless (docs/api.md). */
const REFUSING_CODES = [4400, 4403, 4413, 4422]
/** The credential was not accepted, or has expired: a new one may work. */
const UNAUTHENTICATED = 4401
const FILE_DELETED = 4404
/** A pseudo status for an error that is not retried. */
const NOT_RETRIED = 0

/**
 * Synchronizes through a room, with the provider of y-websocket. Before each connection the transport checks the
 * incarnation of the file: the protocol has no notion of it, and would merge two incarnations.
 */
export class WebsocketTransport implements Transport {
  private room: WebsocketProvider | null = null
  private connecting: AbortController | null = null
  private attempts = 0
  /** The token of the last connection. */
  private token: string | null = null
  /** Whether there were edits while disconnected. */
  private edits = false
  private waiters: { resolve(): void; reject(error: Error): void }[] = []

  constructor(
    private readonly carried: Carried,
    private readonly listener: TransportListener,
    private readonly options: WebsocketTransportOptions
  ) {}

  get unsaved(): boolean {
    return this.edits
  }

  edited(_update: Uint8Array, origin: unknown): void {
    if (origin !== this.room && !this.room?.wsconnected) this.setUnsaved(true)
  }

  connect(): void {
    if (this.connecting !== null) return
    this.connecting = new AbortController()
    this.attempts = 0
    this.listener.statusChanged('connecting')
    void this.open(this.connecting.signal)
  }

  disconnect(): void {
    if (this.connecting === null) return
    this.connecting.abort()
    this.connecting = null
    this.room?.destroy()
    this.room = null
    for (const waiter of this.waiters.splice(0)) waiter.reject(new Error('the provider was disconnected'))
    this.lost()
  }

  destroy(): void {
    this.disconnect()
    this.setUnsaved(false)
  }

  pull(): void {
    // The room reports changes by itself.
  }

  flush(): Promise<void> {
    if (!this.edits) return Promise.resolve()
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject }))
  }

  private async open(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.checkIncarnation(signal)
        const { WebsocketProvider } = await roomPackage()
        if (signal.aborted) return
        const protocols = await this.protocols()
        if (signal.aborted) return
        this.room ??= this.enter(new WebsocketProvider(...this.address(), this.carried.doc, this.roomOptions()), signal)
        this.room.protocols = protocols
        this.room.connect()
        return
      } catch (error) {
        if (signal.aborted) return
        const status = error instanceof GatewayError ? error.status : null
        if (!isRetried(status)) return this.close(closedBy(error as Error))
        this.listener.failed(error as Error)
        await this.pause(signal)
      }
    }
  }

  private enter(room: WebsocketProvider, signal: AbortSignal): WebsocketProvider {
    room.on('status', ({ status }) => status === 'connected' && this.listener.statusChanged(status))
    room.on('sync', (synced) => this.synced(synced))
    room.on('connection-close', (event) => {
      if (signal.aborted) return
      room.shouldConnect = false // reconnected below, after the check of the incarnation
      this.lost()
      const code = event?.code ?? 1006
      if (code === FILE_DELETED) this.close({ reason: 'deleted', error: null })
      else if (code === UNAUTHENTICATED) void this.renew(signal, event?.reason ?? '')
      else if (REFUSING_CODES.includes(code)) {
        this.close({ reason: 'refused', error: new Error(`closed with ${code}: ${event?.reason}`) })
      } else void this.pause(signal).then(() => this.open(signal))
    })
    return room
  }

  /** Reconnect with a new token, if there is one. Edits made in the meantime are in the document. */
  private async renew(signal: AbortSignal, reason: string): Promise<void> {
    try {
      const another = (await this.carried.project.client.token?.(this.token)) ?? null
      if (signal.aborted) return
      if (another !== this.token) return await this.open(signal)
      this.close({ reason: 'refused', error: new Error(`closed with ${UNAUTHENTICATED}: ${reason}`) })
    } catch (error) {
      if (signal.aborted) return
      this.listener.failed(error as Error)
      await this.pause(signal)
      await this.renew(signal, reason)
    }
  }

  /** The token is sent as a subprotocol: proxies log the URL, but not the subprotocols. */
  private async protocols(): Promise<string[]> {
    this.token = (await this.carried.project.client.token?.()) ?? null
    return !this.token ? [] : ['yjs-gateway', `bearer.${this.token}`]
  }

  /** Throws if the file that the document belongs to no longer exists. */
  private async checkIncarnation(signal: AbortSignal): Promise<void> {
    const { project, path, doc, incarnation } = this.carried
    try {
      const content = await project.readUpdate(path, { stateVector: Y.encodeStateVector(doc), signal })
      this.carried.incarnation ??= content.incarnation
      if (this.carried.incarnation !== content.incarnation) this.close({ reason: 'incarnation-changed', error: null })
    } catch (error) {
      const isNew = incarnation === null && isProblem(error, 'project_not_found', 'file_not_found', 'file_deleted')
      if (!isNew) throw error
    }
  }

  private synced(synced: boolean): void {
    if (synced) {
      this.attempts = 0
      this.setUnsaved(false)
    }
    this.listener.syncedChanged(synced)
  }

  private lost(): void {
    this.listener.syncedChanged(false)
    this.listener.statusChanged('disconnected')
  }

  private pause(signal: AbortSignal): Promise<void> {
    this.attempts += 1
    const delay = retryDelayMs(this.options.settings, this.attempts, Math.random())
    return sleep(delay, signal).catch(() => undefined)
  }

  private close(closed: Closed): void {
    this.disconnect()
    this.listener.closed(closed)
  }

  private setUnsaved(unsaved: boolean): void {
    if (unsaved === this.edits) return
    this.edits = unsaved
    if (!unsaved) for (const waiter of this.waiters.splice(0)) waiter.resolve()
    this.listener.unsavedChanged(unsaved)
  }

  private address(): [string, string] {
    const { project, path } = this.carried
    const base = new URL(project.url, typeof location === 'undefined' ? undefined : location.href)
    base.protocol = base.protocol.replace('http', 'ws')
    return [`${base.href}/ws`, encodedPath(path)]
  }

  private roomOptions() {
    const { awareness, WebSocket } = this.options
    const polyfill = WebSocket === undefined ? {} : { WebSocketPolyfill: WebSocket }
    return { awareness, connect: false, disableBc: true, ...polyfill }
  }
}

/** Load the optional peer dependency on first use. */
function roomPackage() {
  return import('y-websocket').catch((error) => {
    throw new GatewayError('the transport "websocket" needs the package y-websocket', NOT_RETRIED, { cause: error })
  })
}

function closedBy(error: Error): Closed {
  return { reason: isProblem(error, 'file_deleted') ? 'deleted' : 'refused', error }
}
