import * as Y from 'yjs'
import { GatewayError, isProblem, MissingPredecessors } from '../errors.js'
import { afterRefusedWrite, isRetried, type PollSettings, retryDelayMs } from '../policy.js'

/** How a write is to be sent. */
export interface WriteContext {
  signal: AbortSignal
  /** The page may go away meanwhile. */
  keepalive: boolean
}

/** What an outbox needs, and whom it tells. */
export interface OutboxOptions {
  /**
   * Resolves when the gateway has acknowledged: to null, or, where it left out a part that builds on something missing,
   * to the state vector of what it has.
   */
  write(update: Uint8Array, context: WriteContext): Promise<Uint8Array | null>
  /** Edits that come within so many milliseconds are one write. */
  batchMs: number
  settings: PollSettings
  /** A write has failed and will be tried again. */
  onError(error: Error): void
  /** A write was refused; all is kept, and nothing is sent until the outbox is opened again. */
  onRefused(error: Error): void
  /** Whether there are edits that the gateway has not acknowledged. */
  onUnsaved(unsaved: boolean): void
}

interface Waiter {
  resolve(): void
  reject(error: Error): void
}

/** What browsers let a page send while it goes away: 64 KiB, headers included. */
const KEEPALIVE_BYTES = 60_000

/** Bytes of what a document was sent and cannot integrate: it builds on something that never came. */
export function pendingBytes({ store }: Y.Doc): number {
  return (store.pendingStructs?.update.length ?? 0) + (store.pendingDs?.length ?? 0)
}

/**
 * Local edits on their way: batched, sent one write at a time, kept until they are acknowledged, sent again after a
 * failure, however often.
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

  /** A local edit. */
  add(update: Uint8Array): void {
    this.pending.push(update)
    if (this.pending.length === 1) this.options.onUnsaved(true)
    if (this.sending === null && this.timer === undefined) this.sendIn(this.options.batchMs)
  }

  /** What is to be sent is this instead: all that the gateway lacks. */
  replace(update: Uint8Array | null): void {
    const unsaved = this.unsaved
    this.pending = update === null ? [] : [update]
    if (unsaved !== this.unsaved) this.options.onUnsaved(this.unsaved)
  }

  /** From now on things may be sent. */
  open(): void {
    this.isOpen = true
    this.attempts = 0
    void this.send()
  }

  /** From now on nothing is sent; all is kept. */
  close(): void {
    this.isOpen = false
    clearTimeout(this.timer)
    this.timer = undefined
    this.sending?.abort()
    this.sending = null
    for (const waiter of this.waiters.splice(0)) waiter.reject(new Error('the provider was disconnected'))
  }

  /** Send at once what waits, for a batch or for a retry. */
  hasten(): void {
    void this.send()
  }

  /** The page may go away: send everything, what is in flight once more, so that it gets there without the page. */
  hastenBeforeLeaving(): void {
    const size = this.pending.reduce((bytes, update) => bytes + update.length, 0)
    if (!this.isOpen || !this.unsaved || size > KEEPALIVE_BYTES) return this.hasten()
    this.sending?.abort()
    this.sending = null
    void this.send(true)
  }

  /** Resolves when all is acknowledged; rejects when that will not be. */
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
   * One write; what builds on something that the gateway lacks is followed by all that it lacks. If that is not all of
   * it, the document itself lacks something: the gateway has what it can have. The rest is an edit again when it can be.
   */
  private async deliver(update: Uint8Array, context: WriteContext): Promise<void> {
    const lacking = await this.write(update, context, false)
    if (lacking === null) return
    await this.write(Y.encodeStateAsUpdate(this.doc, lacking), context, true)
  }

  /** Resolves to the state vector of what the gateway has where it did not take all of an update. */
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
