/** Who wants the results of a key, and what the manager keeps of it. */
import type { StopReason } from '../policy.js'

/** What a poll function returns. `value` is what subscribers get; where nothing `changed` it is not looked at. */
export interface Polled<T> {
  value?: T
  /** Whether it is news; true unless said. */
  changed?: boolean
  /** Whether nothing will ever change again. */
  terminal?: boolean
  /** What the function is to be called with the next time; kept once the value was delivered. */
  cursor?: string | null
  /** A version, or another number that only grows. */
  position?: number | null
  /** The server's `Backoff`. */
  backoffS?: number | null
  /** Whether the thing is at work: polled as after a change, also at first. */
  active?: boolean
}

/** What a poll function is called with. */
export interface PollContext {
  /** That of the last answer that was delivered. */
  cursor: string | null
  /** Aborts when nobody wants the answer any more. */
  signal: AbortSignal
}

/** Asks once. What it throws is retried unless it is a GatewayError that no retry changes. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that returns nothing brings nothing
export type PollFunction<T> = (context: PollContext) => Promise<Polled<T> | void>

/** Who is to be told of what. They may be async; they are called one after the other. */
export interface PollCallbacks<T> {
  onResult?: ((value: T) => unknown) | undefined
  /** Called with the error of every failed attempt. */
  onError?: ((error: Error) => unknown) | undefined
  /** Called with the reason when the poll has stopped. */
  onStop?: ((reason: StopReason) => unknown) | undefined
  /** Called when the error is over, also where nothing is new. */
  onRecover?: (() => unknown) | undefined
  /** Called when the poll goes on after it had stopped. */
  onRestart?: (() => unknown) | undefined
}

/** The manager, as its subscriptions know it. */
export interface Owner {
  leave(subscription: Subscription<never>): void
  hold(subscription: Subscription<never>, enabled: boolean): void
  stopReason(key: string): StopReason | null
}

/** One who wants the results of a key. After `unregister` nothing is called back. */
export class Subscription<T> {
  active = true
  /** Ends when the last callback has returned. */
  turn: Promise<void> = Promise.resolve()

  constructor(
    private readonly owner: Owner,
    readonly entry: Entry,
    readonly name: string,
    readonly interval: number,
    readonly callbacks: PollCallbacks<T>
  ) {}

  /** The last error, until something succeeds. */
  get error(): Error | null {
    return this.entry.error
  }

  /** Why it is not polled any more; null if it is. */
  get stopped(): StopReason | null {
    return this.active ? this.owner.stopReason(this.entry.key) : null
  }

  /** Leave. The last one to leave a key ends its request in flight. */
  unregister(): void {
    if (this.active) this.owner.leave(this as Subscription<never>)
  }

  /** Hold still, or go on. */
  enable(enabled: boolean): void {
    if (this.active) this.owner.hold(this as Subscription<never>, enabled)
  }
}

/** Who waits for a refresh. */
export interface Waiter {
  resolve(value: unknown): void
  reject(error: Error): void
}

/** A key: its poll function, its newest value, who waits for it. */
export class Entry {
  value: unknown = undefined
  hasValue = false
  error: Error | null = null
  request: AbortController | null = null
  /** Whether its subscribers were told that it has stopped. */
  stopped = false
  /** Who gets the answer that just came. */
  receivers: string[] = []
  readonly subscriptions = new Map<string, Subscription<never>>()
  readonly waiters = new Map<string, Waiter>()

  constructor(
    readonly key: string,
    readonly poll: PollFunction<unknown>
  ) {}
}
