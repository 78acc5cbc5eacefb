/** The subscriptions of a key, and the manager's record of the key. */
import type { StopReason } from '../policy.js'

/** The result of a poll function. Subscribers get `value`, which is ignored if `changed` is false. */
export interface Polled<T> {
  value?: T
  /** Whether there is news; default true. */
  changed?: boolean
  /** Whether the resource is final and will never change again. */
  terminal?: boolean
  /** Passed to the next call of the function; adopted once the value has been delivered. */
  cursor?: string | null
  /** A version, or another number that never decreases. */
  position?: number | null
  /** The server's `Backoff` header, in seconds. */
  backoffS?: number | null
  /** Whether the resource is active: polled as after a change from the start. */
  active?: boolean
}

/** The argument of a poll function. */
export interface PollContext {
  /** The cursor of the last delivered answer. */
  cursor: string | null
  /** Aborts when the last subscriber has left. */
  signal: AbortSignal
}

/** Polls once. Errors are retried, except a GatewayError that is permanent. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that returns nothing brings nothing
export type PollFunction<T> = (context: PollContext) => Promise<Polled<T> | void>

/** The callbacks of a subscriber, plain or async; they are called one at a time. */
export interface PollCallbacks<T> {
  onResult?: ((value: T) => unknown) | undefined
  /** Called with the error of every failed attempt. */
  onError?: ((error: Error) => unknown) | undefined
  /** Called with the reason when the poll has stopped. */
  onStop?: ((reason: StopReason) => unknown) | undefined
  /** Called when the error is over, even if there is no news. */
  onRecover?: (() => unknown) | undefined
  /** Called when the poll restarts after it had stopped. */
  onRestart?: (() => unknown) | undefined
}

/** The interface of the manager to its subscriptions. */
export interface Owner {
  leave(subscription: Subscription<never>): void
  hold(subscription: Subscription<never>, enabled: boolean): void
  stopReason(key: string): StopReason | null
}

/** One subscriber of a key. After `unregister` no callback is called. */
export class Subscription<T> {
  active = true
  /** Resolves when the last callback has returned. */
  turn: Promise<void> = Promise.resolve()

  constructor(
    private readonly owner: Owner,
    readonly entry: Entry,
    readonly name: string,
    readonly interval: number,
    readonly callbacks: PollCallbacks<T>
  ) {}

  /** The last error; null again after the next success. */
  get error(): Error | null {
    return this.entry.error
  }

  /** Why the key is no longer polled; null if it is polled. */
  get stopped(): StopReason | null {
    return this.active ? this.owner.stopReason(this.entry.key) : null
  }

  /** Unsubscribe. The last subscriber of a key aborts its request in flight. */
  unregister(): void {
    if (this.active) this.owner.leave(this as Subscription<never>)
  }

  /** Suspend or resume the callbacks. */
  enable(enabled: boolean): void {
    if (this.active) this.owner.hold(this as Subscription<never>, enabled)
  }
}

/** A caller that waits for a refresh. */
export interface Waiter {
  resolve(value: unknown): void
  reject(error: Error): void
}

/** The manager's record of a key: its poll function, newest value, subscribers and waiters. */
export class Entry {
  value: unknown = undefined
  hasValue = false
  error: Error | null = null
  request: AbortController | null = null
  /** Whether `onStop` was called since the poll last ran. */
  stopped = false
  /** The receivers of the answer that has just arrived. */
  receivers: string[] = []
  readonly subscriptions = new Map<string, Subscription<never>>()
  readonly waiters = new Map<string, Waiter>()

  constructor(
    readonly key: string,
    readonly poll: PollFunction<unknown>
  ) {}
}
