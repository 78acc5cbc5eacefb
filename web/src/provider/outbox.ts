import * as Y from 'yjs'
import { GatewayError, isProblem, MissingPredecessors } from '../errors.js'
import { afterRefusedWrite, isRetried, type PollSettings, retryDelayMs } from '../policy.js'

/** How to send a write. */
export interface WriteContext {
  signal: AbortSignal
  /** Whether the write must survive the unloading of the page. */
  keepalive: boolean
}

/** The settings and callbacks of an outbox. */
export interface OutboxOptions {
  /**
   * Resolves when the gateway has acknowledged the update: to null or, if a part was not applied because it builds on
   * updates that the gateway is missing, to the gateway's state vector.
   */
  write(update: Uint8Array, context: WriteContext): Promise<Uint8Array | null>
  /** Edits within this many milliseconds are sent as one write. */
  batchMs: number
  settings: PollSettings
  /** Called when a write has failed and will be retried. */
  onError(error: Error): void
  /** Called when a write was refused. All edits are kept, and nothing is sent until the outbox is opened again. */
  onRefused(error: Error): void
  /** Called when it changes whether there are edits that the gateway has not acknowledged. */
  onUnsaved(unsaved: boolean): void
}

interface Waiter {
  resolve(): void
  reject(error: Error): void
}

/** Browsers let an unloading page send at most 64 KiB, headers included. */
const KEEPALIVE_BYTES = 60_000

/** The size in bytes of the updates that a document cannot integrate yet, because they build on missing ones. */
export function pendingBytes({ store }: Y.Doc): number {
  return (store.pendingStructs?.update.length ?? 0) + (store.pendingDs?.length ?? 0)
}

/**
 * The local edits that the gateway has not acknowledged: batched, sent one write at a time, kept until they are
 * acknowledged, and retried after every transient failure.
 */
export class Outbox {
  private pending: Uint8Array[] = []
  private sending: AbortController | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private attempts = 0
  private isOpen = false
  private waiters: Waiter[] = []

  constructor(
    private readonly doc: Y.Doc,
    private readonly options: OutboxOptions
  ) {}

  /** Whether there are edits that the gateway has not acknowledged. */
  get unsaved(): boolean {
    return this.pending.length > 0
  }

  /** Add a local edit. */
  add(update: Uint8Array): void {
    this.pending.push(update)
    if (this.pending.length === 1) this.options.onUnsaved(true)
    if (this.sending === null && this.timer === undefined) this.sendIn(this.options.batchMs)
  }

  /** Replace the edits to send by everything that the gateway lacks. */
  replace(update: Uint8Array | null): void {
    const unsaved = this.unsaved
    this.pending = update === null ? [] : [update]
    if (unsaved !== this.unsaved) this.options.onUnsaved(this.unsaved)
  }

  /** Allow sending. */
  open(): void {
    this.isOpen = true
    this.attempts = 0
    void this.send()
  }

  /** Stop sending; all edits are kept. */
  close(): void {
    this.isOpen = false
    clearTimeout(this.timer)
    this.timer = undefined
    this.sending?.abort()
    this.sending = null
    for (const waiter of this.waiters.splice(0)) waiter.reject(new Error('the provider was disconnected'))
  }

  /** Send immediately the edits that wait for a batch or for a retry. */
  hasten(): void {
    void this.send()
  }

  /** Send everything before the page unloads, including a second copy of the write in flight, which may be aborted. */
  hastenBeforeLeaving(): void {
    const size = this.pending.reduce((bytes, update) => bytes + update.length, 0)
    if (!this.isOpen || !this.unsaved || size > KEEPALIVE_BYTES) return this.hasten()
    this.sending?.abort()
    this.sending = null
    void this.send(true)
  }

  /** Resolves when all edits are acknowledged; rejects if they cannot be sent. */
  flush(): Promise<void> {
    if (!this.unsaved) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.waiters.push({ resolve, reject })
      void this.send()
    })
  }

  private sendIn(milliseconds: number): void {
    clearTimeout(this.timer)
    this.timer = this.isOpen ? setTimeout(() => void this.send(), milliseconds) : undefined
  }

  private async send(keepalive = false): Promise<void> {
    if (!this.isOpen || this.sending !== null || !this.unsaved) return
    clearTimeout(this.timer)
    this.timer = undefined
    const sending = new AbortController()
    this.sending = sending
    const sent = [...this.pending]
    try {
      await this.deliver(Y.mergeUpdates(sent), { signal: sending.signal, keepalive })
    } catch (error) {
      if (this.sending !== sending) return
      this.sending = null
      this.failed(error instanceof Error ? error : new Error(String(error)))
      return
    }
    if (this.sending !== sending) return
    this.sending = null
    this.acknowledged(sent)
  }

  /**
   * Send one write. If the gateway could not apply all of it, send everything that the gateway lacks. If the gateway
   * cannot apply all of that either, the document itself has gaps, and the gateway has all that can be applied. The
   * rest is sent again as an edit once the gaps are filled.
   */
  private async deliver(update: Uint8Array, context: WriteContext): Promise<void> {
    const lacking = await this.write(update, context, false)
    if (lacking === null) return
    await this.write(Y.encodeStateAsUpdate(this.doc, lacking), context, true)
  }

  /** Send an update. Resolves to the gateway's state vector if a part was not applied, else to null. */
  private async write(update: Uint8Array, context: WriteContext, isDifference: boolean): Promise<Uint8Array | null> {
    try {
      return await this.options.write(update, context)
    } catch (error) {
      if (!(error instanceof MissingPredecessors)) throw error
      const reported = afterRefusedWrite(error.code, isDifference) === 'report'
      if (reported && pendingBytes(this.doc) === 0) throw error
      return error.stateVector
    }
  }

  private acknowledged(sent: Uint8Array[]): void {
    this.attempts = 0
    this.pending = this.pending.filter((update) => !sent.includes(update))
    if (this.unsaved) return this.sendIn(this.options.batchMs)
    this.options.onUnsaved(false)
    for (const waiter of this.waiters.splice(0)) waiter.resolve()
  }

  private failed(error: Error): void {
    const { status, retryAfterS, backoffS } = error instanceof GatewayError ? error : new GatewayError('', null)
    if (!isRetried(status) && !isProblem(error, 'write_contention')) {
      this.isOpen = false
      for (const waiter of this.waiters.splice(0)) waiter.reject(error)
      return this.options.onRefused(error)
    }
    this.attempts += 1
    const hint = Math.max(retryAfterS ?? 0, backoffS ?? 0)
    this.sendIn(retryDelayMs(this.options.settings, this.attempts, Math.random(), hint))
    this.options.onError(error)
  }
}
