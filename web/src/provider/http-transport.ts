import { uuidv4 } from 'lib0/random'
import * as Y from 'yjs'
import { type FileContent, incarnationOf } from '../answers.js'
import { fromBase64, fromBase64Url } from '../base64.js'
import { GatewayError, isProblem } from '../errors.js'
import { isRetried } from '../policy.js'
import type { PollingManager } from '../polling/manager.js'
import { joinFeed, type PollTransport } from '../polling/project-feed.js'
import type { Polled, Subscription } from '../polling/subscription.js'
import type { FeedEntry } from '../wire.js'
import { Outbox, pendingBytes, type WriteContext } from './outbox.js'
import type { Carried, Closed, Transport, TransportListener } from './transport.js'

export interface HttpTransportOptions {
  manager: PollingManager
  transport: PollTransport
  interval: number | undefined
  batchMs: number
  /** The origin of the Yjs transactions that apply remote changes. */
  origin: unknown
}

/** Pulls increments by polling, with or without a feed that signals changes; pushes edits as updates. */
export class HttpTransport implements Transport {
  private readonly key: string
  private readonly outbox: Outbox
  private subscription: Subscription<FileContent | null> | null = null
  private leaveFeed: () => void = () => undefined
  private stopListening = new AbortController()
  private version = 0
  /** Whether the contents of gateway and document have been merged once. */
  private joined = false
  /** The directions whose last attempt failed. */
  private readonly failing = new Set<'pull' | 'push'>()

  constructor(
    private readonly carried: Carried,
    private readonly listener: TransportListener,
    private readonly options: HttpTransportOptions
  ) {
    this.key = `document ${carried.project.url} ${carried.path} ${uuidv4()}`
    this.outbox = new Outbox(carried.doc, {
      write: (update, context) => this.write(update, context),
      batchMs: options.batchMs,
      settings: options.manager.settings,
      onError: (error) => this.failed('push', error),
      onRefused: (error) => this.close(closedBy(error)),
      onUnsaved: (unsaved) => listener.unsavedChanged(unsaved)
    })
  }

  get unsaved(): boolean {
    return this.outbox.unsaved
  }

  edited(update: Uint8Array): void {
    this.outbox.add(update)
    this.options.manager.noteWrite(this.key)
  }

  connect(): void {
    if (this.subscription !== null) return
    const { manager, transport, interval } = this.options
    this.failing.clear()
    this.listener.statusChanged('connecting')
    this.subscription = manager.register<FileContent | null>(this.key, ({ signal }) => this.poll(signal), interval, {
      onResult: (content) => this.take(content),
      onError: (error) => this.pollFailed(error)
    })
    const interest = (entry: FeedEntry) => this.hear(entry)
    this.leaveFeed = joinFeed(manager, this.carried.project, transport, this.key, interest, { updates: true })
    this.listen()
    if (this.joined) this.outbox.open()
  }

  disconnect(): void {
    if (this.subscription === null) return
    this.stopListening.abort()
    this.leaveFeed()
    this.subscription.unregister()
    this.subscription = null
    this.outbox.close()
    this.listener.syncedChanged(false)
    this.listener.statusChanged('disconnected')
  }

  destroy(): void {
    this.disconnect()
    this.outbox.replace(null)
  }

  pull(version = Number.POSITIVE_INFINITY): void {
    if (version > this.version) this.options.manager.signal(this.key)
  }

  flush(): Promise<void> {
    return this.outbox.flush()
  }

  // Pulling

  private async poll(signal: AbortSignal): Promise<Polled<FileContent | null>> {
    const content = await this.read(signal)
    signal.throwIfAborted()
    this.succeeded('pull')
    const changed = !this.joined || (content?.update ?? null) !== null
    return { value: content, changed, backoffS: content?.backoffS ?? null }
  }

  /** Read the increment of the file; null if the file does not exist and this client has never seen it. */
  private async read(signal: AbortSignal): Promise<FileContent | null> {
    const { project, path, incarnation } = this.carried
    try {
      return await project.readUpdate(path, this.joined ? { fromVersion: this.version, signal } : { signal })
    } catch (error) {
      const isNew = incarnation === null && isProblem(error, 'project_not_found', 'file_not_found', 'file_deleted')
      if (!isNew) throw error
      return null
    }
  }

  private take(content: FileContent | null): void {
    const { doc } = this.carried
    if (content !== null) {
      if (!this.isSameLife(content.incarnation)) return
      if (content.update !== null) this.apply(content.update)
      this.version = Math.max(this.version, content.version)
    }
    if (!this.joined) {
      this.joined = true
      this.outbox.replace(difference(doc, content?.update ?? null))
      this.outbox.open()
    }
    this.tellState()
  }

  private apply(update: Uint8Array): void {
    const { doc } = this.carried
    const [waiting, known] = [pendingBytes(doc), Y.encodeStateVector(doc)]
    Y.applyUpdate(doc, update, this.options.origin)
    // The increment allowed the document to integrate pending content from another source: send that content, too.
    if (this.joined && pendingBytes(doc) < waiting) this.outbox.add(Y.encodeStateAsUpdate(doc, known))
  }

  /** Handle an entry of the feed. Returns whether to poll: not if the entry contains the whole change. */
  private hear(entry: FeedEntry): boolean {
    if (entry.kind !== 'file' || entry.path !== this.carried.path) return false
    const { incarnation, from_version: from, update, version } = entry
    if (!this.joined || this.failing.has('pull')) return true
    if (version <= this.version) return false // versions are never reused
    if (update === undefined || incarnation !== this.carried.incarnation) return true
    if (from == null || from > this.version) return true
    this.apply(fromBase64(update))
    this.version = version
    return false
  }

  private pollFailed(error: Error): void {
    if (error instanceof GatewayError && !isRetried(error.status)) this.close(closedBy(error))
    else this.failed('pull', error)
  }

  // Pushing

  private async write(update: Uint8Array, { signal, keepalive }: WriteContext): Promise<Uint8Array | null> {
    const { project, path, incarnation } = this.carried
    const { value: receipt, tag } = await project.appendUpdate(path, update, { incarnation, signal, keepalive })
    const lacking = receipt.state_vector === undefined ? null : fromBase64Url(receipt.state_vector)
    if (signal.aborted) return lacking
    this.succeeded('push')
    if (tag === null || !this.isSameLife(incarnationOf(tag))) return lacking
    // Nobody else wrote in between: this version is the update just sent, and need not be fetched.
    if (receipt.version === this.version + 1) this.version = receipt.version
    else if (receipt.version > this.version) this.options.manager.signal(this.key)
    return lacking
  }

  // Lifecycle

  /** Whether an answer is from the incarnation that the document belongs to; if not, the transport closes. */
  private isSameLife(incarnation: string): boolean {
    this.carried.incarnation ??= incarnation
    if (this.carried.incarnation === incarnation) return true
    this.close({ reason: 'incarnation-changed', error: null })
    return false
  }

  private succeeded(what: 'pull' | 'push'): void {
    this.failing.delete(what)
    this.tellState()
  }

  private failed(what: 'pull' | 'push', error: Error): void {
    this.failing.add(what)
    this.tellState()
    this.listener.failed(error)
  }

  private tellState(): void {
    const isWell = this.failing.size === 0
    this.listener.statusChanged(isWell ? 'connected' : 'disconnected')
    this.listener.syncedChanged(isWell && this.joined)
  }

  private close(closed: Closed): void {
    this.disconnect()
    this.listener.closed(closed)
  }

  /** Send waiting edits when the network returns, and before the page unloads. */
  private listen(): void {
    this.stopListening = new AbortController()
    if (typeof document === 'undefined' || typeof window === 'undefined') return
    const { signal } = this.stopListening
    const leave = () => this.outbox.hastenBeforeLeaving()
    window.addEventListener('pagehide', leave, { signal })
    window.addEventListener('online', () => this.outbox.hasten(), { signal })
    document.addEventListener('visibilitychange', () => document.hidden && leave(), { signal })
  }
}

/** The content of a document that an update lacks, as an update; null if there is none. */
function difference(doc: Y.Doc, update: Uint8Array | null): Uint8Array | null {
  const mine = Y.snapshot(doc)
  if (mine.sv.size === 0) return null
  if (update === null) return Y.encodeStateAsUpdate(doc)
  const remote = new Y.Doc()
  Y.applyUpdate(remote, update)
  const theirs = Y.snapshot(remote)
  const result = Y.equalSnapshots(mine, theirs) ? null : Y.encodeStateAsUpdate(doc, Y.encodeStateVector(remote))
  remote.destroy()
  return result
}

function closedBy(error: Error): Closed {
  if (isProblem(error, 'file_deleted')) return { reason: 'deleted', error }
  if (isProblem(error, 'version_ahead', 'file_not_found', 'project_not_found')) return { reason: 'reset', error }
  return { reason: 'refused', error }
}
