import { GatewayError } from '../errors.js'
import { DEFAULT_SETTINGS, type Decision, type PollSettings, type StopReason } from '../policy.js'
import { PollSchedule } from './schedule.js'
import { watchSignals } from './signals.js'
import { Entry, type PollCallbacks, type PollFunction, Subscription } from './subscription.js'

/** A source of change signals for a manager. A manager that does not poll suspends its listeners. */
export interface Listener {
  suspend(suspended: boolean): void
}

/** The options of a manager. */
export interface PollingManagerOptions {
  /** How many requests may be in flight at once. */
  maxConcurrent?: number
  /** The rest of the policy. Without a `document` there is no user, so `inactiveStopMs` defaults to null. */
  settings?: Partial<PollSettings>
  /** Returns numbers from 0 to 1 for the jitter. */
  random?: () => number
  /** Called with an error that a callback threw; by default it is logged to the console. */
  onFault?: (key: string, error: unknown) => void
}

/** The options of a registration. */
export interface RegisterOptions<T> extends PollCallbacks<T> {
  /** False: the subscription is suspended until it is enabled. */
  enabled?: boolean | undefined
  /** Passed to the first poll of a new key. */
  cursor?: string | null | undefined
}

/**
 * Polls according to the policy: runs the schedule with a clock, one timer, and requests.
 *
 * A manager without subscribers has no timer and no listener. In a browser it pauses while the page is hidden, and
 * reacts to user activity, the network and the device.
 */
export class PollingManager {
  readonly settings: Readonly<PollSettings>
  private readonly schedule: PollSchedule
  private readonly onFault: (key: string, error: unknown) => void
  private readonly entries = new Map<string, Entry>()
  private readonly listeners = new Map<string, Listener>()
  private readonly heldFor = new Set<'application' | 'hidden page'>()
  private names = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private timerAt = Number.POSITIVE_INFINITY
  private isSuspended = true
  private stopSignals: (() => void) | null = null

  constructor({ maxConcurrent, settings, random = Math.random, onFault = logFault }: PollingManagerOptions = {}) {
    const nobody = typeof document === 'undefined' ? { inactiveStopMs: null } : {}
    this.settings = { ...DEFAULT_SETTINGS, ...nobody, ...settings, ...(maxConcurrent ? { maxConcurrent } : {}) }
    this.schedule = new PollSchedule(this.settings, random)
    this.onFault = onFault
  }

  // Subscribers

  /**
   * Call back with every new result of a key. All subscribers of a key share the poll function registered first, one
   * request and one timer, at the shortest interval (milliseconds) that any of them asks for.
   */
  register<T>(
    key: string,
    poll: PollFunction<T>,
    interval: number = this.settings.documentIntervalMs,
    { enabled = true, cursor = null, ...callbacks }: RegisterOptions<T> = {}
  ): Subscription<T> {
    const entry = this.entries.get(key) ?? new Entry(key, poll as PollFunction<unknown>)
    this.entries.set(key, entry)
    this.stopSignals ??= watchSignals(this)
    const name = `subscriber-${++this.names}`
    const subscription = new Subscription<T>(this, entry, name, interval, callbacks)
    entry.subscriptions.set(name, subscription as Subscription<never>)
    this.act(this.schedule.register(now(), key, name, interval, { enabled, cursor }))
    return subscription
  }

  /** Remove a key and all its subscribers: its request and timer are cancelled, and no callback is called. */
  unregister(key: string): void {
    for (const subscription of this.entries.get(key)?.subscriptions.values() ?? []) subscription.unregister()
  }

  /** Implements `Subscription.unregister`. */
  leave(subscription: Subscription<never>): void {
    const { entry, name } = subscription
    subscription.active = false
    entry.subscriptions.delete(name)
    if (entry.subscriptions.size === 0) {
      this.entries.delete(entry.key)
      const gone = new DOMException(`nobody polls ${entry.key} any more`, 'AbortError')
      for (const waiter of entry.waiters.values()) waiter.reject(gone)
    }
    this.act(this.schedule.unregister(now(), entry.key, name), entry)
    if (this.entries.size === 0) {
      this.stopSignals?.()
      this.stopSignals = null
      this.hide(false)
    }
  }

  /** Implements `Subscription.enable`. */
  hold({ entry, name, interval }: Subscription<never>, enabled: boolean): void {
    const { schedule } = this
    this.act(enabled ? schedule.enable(now(), entry.key, name, interval) : schedule.disable(now(), entry.key, name))
  }

  /** Whether a key has subscribers. */
  has(key: string): boolean {
    return this.entries.has(key)
  }

  /** The newest result of a key; undefined if there is none. */
  latest(key: string): unknown {
    return this.entries.get(key)?.value
  }

  // Events from the application

  /** Send no requests until `resume`; no timer runs. */
  pause(): void {
    this.pauseFor('application', true)
  }

  /** Poll immediately what is due, and restart stopped polls. */
  resume(): void {
    this.pauseFor('application', false)
  }

  /** Note that the page was hidden or shown. In a browser the manager does this itself. */
  hide(hidden: boolean): void {
    if (this.heldFor.has('hidden page') !== hidden) this.pauseFor('hidden page', hidden)
  }

  /** Note user activity: restart polls that stopped for lack of changes or of user activity, or failed. */
  touch(): void {
    this.act(this.schedule.touch(now()))
  }

  /** Note that the network is back: restart failed polls. */
  online(): void {
    this.act(this.schedule.online(now()))
  }

  /** Turn saving of battery or data on or off. */
  constrain(constrained: boolean): void {
    this.act(this.schedule.constrain(now(), constrained))
  }

  /** Note that this client wrote the resource of a key. */
  noteWrite(key: string): void {
    if (this.entries.has(key)) this.act(this.schedule.noteWrite(now(), key))
  }

  /** Note that there may be news: poll immediately. */
  signal(key: string): void {
    if (this.entries.has(key)) this.act(this.schedule.signal(now(), key))
  }

  /** Set whether a key is polled on signals only, instead of by time. */
  upgrade(key: string, upgraded: boolean): void {
    if (!this.entries.has(key)) return
    this.act(upgraded ? this.schedule.upgrade(now(), key) : this.schedule.downgrade(now(), key))
  }

  /**
   * The current result of a key, or a cached one (`PollSettings.cacheMs`, half a second by default). Rejects with the
   * error of the request.
   */
  refresh<T>(key: string): Promise<T> {
    const entry = this.entries.get(key)
    if (entry === undefined) return Promise.reject(new RangeError(`no poll is registered as ${key}`))
    const name = `waiter-${++this.names}`
    return new Promise<T>((resolve, reject) => {
      entry.waiters.set(name, { resolve: resolve as (value: unknown) => void, reject })
      this.act(this.schedule.refresh(now(), key, name))
    }).finally(() => entry.waiters.delete(name))
  }

  /** Why a key is no longer polled; null if it is polled. */
  stopReason(key: string): StopReason | null {
    return this.schedule.stopReason(key)
  }

  // Tasks and listeners

  /** The listener of a name, created if necessary. */
  listener<C extends Listener>(name: string, make: () => C): C {
    const listener = (this.listeners.get(name) as C | undefined) ?? make()
    this.listeners.set(name, listener)
    return listener
  }

  /** Remove a listener. */
  removeListener(name: string): void {
    this.listeners.delete(name)
  }

  /** Whether the manager is paused, or all polls have stopped. */
  get suspended(): boolean {
    return this.isSuspended
  }

  // Internals

  private pauseFor(reason: 'application' | 'hidden page', paused: boolean): void {
    if (paused) this.heldFor.add(reason)
    else this.heldFor.delete(reason)
    this.act(this.heldFor.size > 0 ? this.schedule.pause(now()) : this.schedule.resume(now()))
  }

  /** Carry out the decisions, and set the timer. */
  private act(decisions: Decision[], leaving?: Entry): void {
    for (const decision of decisions) {
      const entry = decision.do === 'abort' ? leaving : this.entries.get(decision.key)
      if (entry !== undefined) this.do(decision, entry)
    }
    this.setTimer()
    const suspended = this.heldFor.size > 0 || !this.schedule.running
    if (suspended === this.isSuspended) return
    this.isSuspended = suspended
    for (const listener of [...this.listeners.values()]) listener.suspend(suspended)
  }

  private do(decision: Decision, entry: Entry): void {
    switch (decision.do) {
      case 'abort':
        entry.request?.abort(new DOMException(`nobody polls ${entry.key} any more`, 'AbortError'))
        return
      case 'poll':
        if (entry.stopped) this.tell(entry, (callbacks) => callbacks.onRestart, undefined)
        entry.stopped = false
        void this.ask(entry)
        return
      case 'deliver':
        if (decision.cached) void this.deliver(entry, decision.to)
        else entry.receivers = decision.to
        return
      case 'fail':
        for (const name of decision.to) this.tellError(entry, name)
        return
      case 'recover':
        entry.error = null
        return this.tell(entry, (callbacks) => callbacks.onRecover, undefined)
      case 'stop':
        entry.stopped = true
        return this.tell(entry, (callbacks) => callbacks.onStop, decision.reason)
      case 'warn_fast_loop':
        console.warn(`polls of ${entry.key} follow each other without pause and bring nothing; slowing down`)
    }
  }

  /** Set the one timer for all keys. */
  private setTimer(): void {
    const wake = this.schedule.wake ?? Number.POSITIVE_INFINITY
    if (wake === this.timerAt) return
    clearTimeout(this.timer)
    this.timerAt = wake
    if (wake === Number.POSITIVE_INFINITY) return
    const timerFired = () => {
      this.timerAt = Number.POSITIVE_INFINITY
      this.act(this.schedule.advance(Math.max(wake, now())))
    }
    this.timer = setTimeout(timerFired, Math.max(0, wake - now()))
  }

  /** Send one request, and deliver its result. */
  private async ask(entry: Entry): Promise<void> {
    const request = new AbortController()
    entry.request = request
    const basedOn = this.schedule.cursor(entry.key)
    const isCurrent = () => this.entries.get(entry.key) === entry
    let polled: Awaited<ReturnType<PollFunction<unknown>>>
    try {
      polled = (await entry.poll({ cursor: basedOn, signal: request.signal })) ?? { changed: false }
    } catch (error) {
      if (isCurrent()) this.noteFailure(entry, error)
      return
    }
    if (!isCurrent()) return
    const { value, changed = true, ...rest } = polled
    entry.receivers = []
    const decisions = this.schedule.answered(now(), entry.key, { ...rest, changed, basedOn })
    if ((changed || !entry.hasValue) && !decisions.some((each) => each.do === 'drop')) {
      entry.value = value
      entry.hasValue = true
    }
    this.act(decisions)
    if (entry.receivers.length === 0) return
    await this.deliver(entry, entry.receivers)
    if (isCurrent()) this.act(this.schedule.delivered(now(), entry.key))
  }

  private noteFailure(entry: Entry, thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown))
    entry.error = error
    const failure = error instanceof GatewayError ? error : { status: null }
    this.act(this.schedule.failed(now(), entry.key, failure))
  }

  private async deliver(entry: Entry, to: string[]): Promise<void> {
    const { value } = entry
    for (const name of to) {
      entry.waiters.get(name)?.resolve(value)
      const subscription = entry.subscriptions.get(name)
      if (subscription !== undefined) await this.call(subscription, subscription.callbacks.onResult, value as never)
    }
  }

  private tell<V>(
    entry: Entry,
    callback: (callbacks: PollCallbacks<never>) => ((value: V) => unknown) | undefined,
    value: V
  ): void {
    for (const each of entry.subscriptions.values()) void this.call(each, callback(each.callbacks), value)
  }

  private tellError(entry: Entry, name: string): void {
    const error = entry.error ?? new Error('the poll failed')
    entry.waiters.get(name)?.reject(error)
    const subscription = entry.subscriptions.get(name)
    if (subscription !== undefined) void this.call(subscription, subscription.callbacks.onError, error)
  }

  /** Call back, one call at a time; an error of a callback does not affect other subscribers. */
  private call<V>(
    subscription: Subscription<never>,
    callback: ((value: V) => unknown) | undefined,
    value: V
  ): Promise<void> {
    if (callback === undefined) return subscription.turn
    const run = async () => {
      try {
        if (subscription.active) await callback(value)
      } catch (error) {
        this.onFault(subscription.entry.key, error)
      }
    }
    subscription.turn = subscription.turn.then(run)
    return subscription.turn
  }
}

function now(): number {
  return performance.now()
}

function logFault(key: string, error: unknown): void {
  console.error(`a callback for ${key} failed`, error)
}

/** The default manager. */
export const pollingManager: PollingManager = /* @__PURE__ */ new PollingManager()
