import {
  type Answer,
  type Decision,
  type Failure,
  givesUp,
  intervalMs,
  isRetried,
  type PollSettings,
  RESTARTED_BY_RESUME,
  RESTARTED_BY_TOUCH,
  retryDelayMs,
  type StopReason
} from '../policy.js'
import { byTime, cancel, isStale, noteChange, PollState } from './poll-state.js'

const NEVER = Number.POSITIVE_INFINITY

/**
 * The schedule of all polls of one manager, a state machine: timed events in, decisions out. No clock, timer or I/O.
 *
 * Every method takes the current time (monotonic, in milliseconds) and returns the decisions to carry out, in order.
 * Between events the caller calls `advance` at the time given by `wake`. The caller chooses the names of keys and
 * subscribers.
 */
export class PollSchedule {
  private readonly polls = new Map<string, PollState>()
  private readonly stopped = new Set<PollState>()
  private order = 0
  private inFlight = 0
  private notBefore = Number.NEGATIVE_INFINITY
  private touched = Number.NEGATIVE_INFINITY
  private pausedAt: number | null = null
  private constrained = false

  /** @param random returns numbers from 0 to 1 for the jitter. */
  constructor(
    private readonly settings: PollSettings,
    private readonly random: () => number
  ) {}

  // Queries

  /** When `advance` must be called if no event happens before; null: never. */
  get wake(): number | null {
    if (this.pausedAt !== null) return null
    let wake = NEVER
    let ready = false
    for (const poll of this.polls.values()) {
      if (poll.timer !== null) wake = Math.min(wake, poll.timer)
      ready ||= poll.queued
    }
    if (ready && this.inFlight < this.settings.maxConcurrent) wake = Math.min(wake, this.notBefore)
    if (this.running) wake = Math.min(wake, this.inactiveAt)
    return wake === NEVER ? null : wake
  }

  /** Whether any poll has not stopped; a pause does not count. */
  get running(): boolean {
    return this.stopped.size < this.polls.size
  }

  /** The cursor at which the next poll of a key continues. */
  cursor(key: string): string | null {
    return this.poll(key).cursor
  }

  /** Why a key is no longer polled; null if it is polled. */
  stopReason(key: string): StopReason | null {
    return this.polls.get(key)?.stopped ?? null
  }

  // Subscribers

  /** Add a subscriber to a key. `cursor` is where the first poll of a new key starts. */
  register(
    now: number,
    key: string,
    subscriber: string,
    interval: number,
    { enabled = true, cursor = null }: { enabled?: boolean; cursor?: string | null } = {}
  ): Decision[] {
    const poll = this.polls.get(key) ?? new PollState(key, this.order++, now, this.settings, cursor)
    this.polls.set(key, poll)
    poll.subscribers.add(subscriber)
    this.touched = now
    return enabled ? this.enable(now, key, subscriber, interval) : this.advance(now)
  }

  /** Enable a disabled subscriber again. */
  enable(now: number, key: string, subscriber: string, interval: number): Decision[] {
    const poll = this.poll(key)
    poll.intervals.set(subscriber, interval)
    if (this.hasCached(poll, now)) {
      if (poll.stopped !== null && RESTARTED_BY_RESUME.has(poll.stopped)) this.restart(poll, now)
      if (!poll.busy && poll.stopped === null) this.reschedule(poll, now)
      return [{ do: 'deliver', key, to: [subscriber], cached: true }, ...this.advance(now)]
    }
    poll.fresh.add(subscriber)
    if (poll.stopped !== null) this.restart(poll, now)
    this.setDue(poll, now)
    return this.advance(now)
  }

  /** Disable a subscriber: it gets no results until it is enabled. */
  disable(now: number, key: string, subscriber: string): Decision[] {
    const poll = this.poll(key)
    poll.intervals.delete(subscriber)
    poll.fresh.delete(subscriber)
    if (!poll.busy && poll.stopped === null) this.reschedule(poll, now)
    return this.advance(now)
  }

  /** Remove a subscriber; removing the last one removes the poll and aborts its request in flight. */
  unregister(now: number, key: string, subscriber: string): Decision[] {
    const poll = this.poll(key)
    poll.subscribers.delete(subscriber)
    if (poll.subscribers.size > 0) return this.disable(now, key, subscriber)
    this.polls.delete(key)
    this.stopped.delete(poll)
    if (!poll.inFlight) return this.advance(now)
    this.inFlight -= 1
    return [{ do: 'abort', key }, ...this.advance(now)]
  }

  // Results

  /** Handle the answer of the request in flight. */
  answered(now: number, key: string, answer: Answer): Decision[] {
    const poll = this.requestDone(now, key, answer.backoffS)
    const decisions: Decision[] = poll.failing ? [{ do: 'recover', key }] : []
    poll.failing = false
    poll.attempts = 0
    poll.notBefore = Number.NEGATIVE_INFINITY
    if (isStale(poll, answer)) {
      poll.answeredAt = now
      return [...decisions, { do: 'drop', key }, ...this.settle(poll, now, null), ...this.advance(now)]
    }
    if (answer.active) poll.changedAt ??= now
    if (answer.changed) noteChange(poll, now)
    const to = answer.changed ? poll.receivers() : [...poll.fresh]
    poll.answeredAt = now
    poll.fresh.clear()
    if (to.length > 0) {
      poll.answer = answer
      return [...decisions, { do: 'deliver', key, to }, ...this.advance(now)]
    }
    return [...decisions, ...this.settle(poll, now, answer), ...this.advance(now)]
  }

  /** Note that the callbacks for an answer have returned. */
  delivered(now: number, key: string): Decision[] {
    const poll = this.poll(key)
    const answer = poll.answer
    poll.answer = null
    return [...this.settle(poll, now, answer), ...this.advance(now)]
  }

  /** Handle the failure of the request in flight. */
  failed(now: number, key: string, failure: Failure): Decision[] {
    const poll = this.requestDone(now, key, failure.backoffS)
    const to = poll.receivers()
    for (const name of poll.fresh) if (!poll.intervals.has(name)) poll.fresh.delete(name)
    poll.failing = true
    poll.again = false
    const retried = isRetried(failure.status)
    if (!retried || givesUp(this.settings, poll.attempts)) {
      const stop = this.stop(poll, retried ? 'failed' : 'refused')
      return [{ do: 'fail', key, to }, stop, ...this.advance(now)]
    }
    poll.attempts += 1
    const retryIn = retryDelayMs(this.settings, poll.attempts, this.random(), failure.retryAfterS)
    poll.notBefore = now + retryIn
    this.setDue(poll, now)
    return [{ do: 'fail', key, to, retryIn }, ...this.advance(now)]
  }

  // External events

  /** Note user activity. */
  touch(now: number): Decision[] {
    this.touched = now
    this.restartStopped(now, RESTARTED_BY_TOUCH)
    return this.advance(now)
  }

  /** Note that this client wrote the resource of a key. */
  noteWrite(now: number, key: string): Decision[] {
    const poll = this.poll(key)
    this.touched = now
    if (poll.stopped !== null && RESTARTED_BY_TOUCH.has(poll.stopped)) this.restart(poll, now)
    poll.changedAt = poll.idleSince = now
    const due = poll.due
    if (due !== null && !poll.queued) {
      this.reschedule(poll, now)
      if (poll.due === null || due < poll.due) this.setDue(poll, due)
    }
    return this.advance(now)
  }

  /** Poll immediately because of news, and again if a request in flight may have missed them. */
  signal(now: number, key: string): Decision[] {
    const poll = this.poll(key)
    if (poll.busy) poll.again = true
    else if (poll.stopped === null) this.setDue(poll, now)
    return this.advance(now)
  }

  /** Get the current result for a waiter. */
  refresh(now: number, key: string, waiter: string): Decision[] {
    const poll = this.poll(key)
    this.touched = now
    if (this.hasCached(poll, now)) return [{ do: 'deliver', key, to: [waiter], cached: true }, ...this.advance(now)]
    poll.fresh.add(waiter)
    if (poll.stopped !== null) this.restart(poll, now)
    if (poll.failing) poll.notBefore = Number.NEGATIVE_INFINITY
    this.setDue(poll, now)
    return this.advance(now)
  }

  /** Pause while the page is hidden: no new requests and no timer. Requests in flight may still finish. */
  pause(now: number): Decision[] {
    this.pausedAt ??= now
    return []
  }

  /** Resume when the page is shown: poll what is due immediately, and restart stopped polls. */
  resume(now: number): Decision[] {
    if (this.pausedAt !== null) {
      const away = now - this.pausedAt
      this.pausedAt = null
      for (const poll of this.polls.values()) {
        poll.idleSince += away
        if (poll.changedAt !== null) poll.changedAt += away
        if (poll.timer !== null && poll.due !== null) this.setDue(poll, poll.due)
      }
    }
    this.touched = now
    this.restartStopped(now, RESTARTED_BY_RESUME)
    return this.advance(now)
  }

  /** Note that the network is back: restart failed polls. */
  online(now: number): Decision[] {
    this.restartStopped(now, new Set(['failed']))
    return this.advance(now)
  }

  /** Turn saving of battery or data on or off. */
  constrain(now: number, constrained: boolean): Decision[] {
    this.constrained = constrained
    for (const poll of this.polls.values()) {
      if (!poll.busy && !poll.queued && poll.stopped === null && !poll.failing) this.reschedule(poll, now)
    }
    return this.advance(now)
  }

  /** Poll on signals only, since a stream now reports changes; poll once for changes just before that. */
  upgrade(now: number, key: string): Decision[] {
    this.poll(key).upgraded = true
    return this.signal(now, key)
  }

  /** Poll by time again, the first time immediately: the stream has disconnected. */
  downgrade(now: number, key: string): Decision[] {
    const poll = this.poll(key)
    poll.upgraded = false
    poll.idleSince = now
    return this.signal(now, key)
  }

  /** Handle the passing of time: stop idle polls, and start due ones in order, up to `maxConcurrent`. */
  advance(now: number): Decision[] {
    if (this.pausedAt !== null) return []
    const decisions: Decision[] = []
    const polls = [...this.polls.values()]
    if (now >= this.inactiveAt) {
      for (const poll of polls) if (poll.stopped === null) decisions.push(this.stop(poll, 'inactive'))
    }
    for (const poll of byTime(polls, (poll) => poll.timer)) {
      if ((poll.timer ?? NEVER) <= now) decisions.push(...this.timerFired(poll))
    }
    if (now < this.notBefore) return decisions
    for (const poll of byTime(polls, (poll) => (poll.queued ? poll.due : null))) {
      if (this.inFlight >= this.settings.maxConcurrent) break
      poll.queued = false
      poll.inFlight = true
      poll.due = null
      this.inFlight += 1
      decisions.push({ do: 'poll', key: poll.key })
    }
    return decisions
  }

  // Internals

  private poll(key: string): PollState {
    const poll = this.polls.get(key)
    if (poll === undefined) throw new RangeError(`no poll is registered as ${key}`)
    return poll
  }

  private get inactiveAt(): number {
    return this.settings.inactiveStopMs === null ? NEVER : this.touched + this.settings.inactiveStopMs
  }

  private requestDone(now: number, key: string, backoffS: number | null | undefined): PollState {
    const poll = this.poll(key)
    poll.inFlight = false
    this.inFlight -= 1
    if (backoffS) this.notBefore = Math.max(this.notBefore, now + backoffS * 1000)
    return poll
  }

  /** Finish an answer: adopt its cursor, and plan the next poll. */
  private settle(poll: PollState, now: number, answer: Answer | null): Decision[] {
    const decisions: Decision[] = []
    if (answer !== null) {
      poll.cursor = answer.cursor ?? poll.cursor
      poll.position = answer.position ?? poll.position
      if (answer.terminal) return [this.stop(poll, 'completed')]
    }
    if (!answer?.changed && poll.fastLoop.empty(now)) {
      decisions.push({ do: 'warn_fast_loop', key: poll.key })
      poll.notBefore = now + retryDelayMs(this.settings, poll.fastLoop.found, this.random())
    }
    if (poll.again || poll.fresh.size > 0) {
      poll.again = false
      this.setDue(poll, now)
    } else {
      this.reschedule(poll, now)
    }
    return decisions
  }

  /** Handle the timer of a poll: the poll is due, or has been idle too long. */
  private timerFired(poll: PollState): Decision[] {
    poll.timer = null
    if (this.idleEnd(poll) <= (poll.due ?? NEVER)) return [this.stop(poll, 'timed_out')]
    poll.queued = true
    return []
  }

  private idleEnd(poll: PollState): number {
    const limit = this.settings.idleStopMs
    return limit === null || poll.upgraded ? NEVER : poll.idleSince + limit
  }

  private hasCached(poll: PollState, now: number): boolean {
    return poll.answeredAt !== null && !poll.failing && now - poll.answeredAt < this.settings.cacheMs
  }

  /** Plan the next poll after the last answer, at the current interval. */
  private reschedule(poll: PollState, now: number): void {
    if (poll.failing) {
      this.setDue(poll, now)
    } else if (poll.upgraded || poll.intervals.size === 0 || poll.stopped !== null) {
      cancel(poll)
    } else {
      const age = poll.changedAt === null ? null : now - poll.changedAt
      const asked = Math.min(...poll.intervals.values())
      const interval = intervalMs(this.settings, asked, age, this.constrained)
      this.setDue(poll, Math.max(now, (poll.answeredAt ?? now) + interval))
    }
  }

  private setDue(poll: PollState, due: number): void {
    if (poll.busy || poll.stopped !== null || poll.intervals.size + poll.fresh.size === 0) return
    poll.queued = false
    poll.due = Math.max(due, poll.notBefore)
    poll.timer = Math.min(poll.due, this.idleEnd(poll))
  }

  private stop(poll: PollState, reason: StopReason): Decision {
    cancel(poll)
    poll.again = false
    poll.stopped = reason
    this.stopped.add(poll)
    return { do: 'stop', key: poll.key, reason }
  }

  private restart(poll: PollState, now: number): void {
    this.stopped.delete(poll)
    poll.stopped = null
    poll.changedAt = null
    poll.idleSince = now
    poll.attempts = 0
    poll.notBefore = Number.NEGATIVE_INFINITY
    this.setDue(poll, now)
  }

  private restartStopped(now: number, reasons: ReadonlySet<StopReason>): void {
    for (const poll of [...this.stopped]) {
      if (poll.stopped !== null && reasons.has(poll.stopped)) this.restart(poll, now)
    }
  }
}
