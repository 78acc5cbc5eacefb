import { type Answer, FastLoop, type PollSettings, type StopReason } from '../policy.js'

/** The state of one key in the schedule: its subscribers and its progress. */
export class PollState {
  /** By subscriber; disabled subscribers are absent. */
  readonly intervals = new Map<string, number>()
  readonly subscribers = new Set<string>()
  /** Subscribers that get the next result even without news: new ones, and waiters of a refresh. */
  readonly fresh = new Set<string>()
  readonly fastLoop: FastLoop
  position = Number.NEGATIVE_INFINITY
  answeredAt: number | null = null
  changedAt: number | null = null
  due: number | null = null
  /** The earliest time of the next poll: after a failure, or after a fast loop. */
  notBefore = Number.NEGATIVE_INFINITY
  timer: number | null = null
  queued = false
  inFlight = false
  /** Whether to poll once more after the request in flight. */
  again = false
  upgraded = false
  /** The answer that is being delivered. */
  answer: Answer | null = null
  attempts = 0
  failing = false
  stopped: StopReason | null = null

  constructor(
    readonly key: string,
    readonly order: number,
    /** The time of the last news, or of the start. */
    public idleSince: number,
    settings: PollSettings,
    public cursor: string | null
  ) {
    this.fastLoop = new FastLoop(settings)
  }

  get busy(): boolean {
    return this.inFlight || this.answer !== null
  }

  /** The receivers of news: all subscribers, then the waiters of this result. */
  receivers(): string[] {
    return [...new Set([...this.intervals.keys(), ...this.fresh])]
  }
}

/** Whether a newer answer has already been delivered. */
export function isStale(poll: PollState, answer: Answer): boolean {
  if (answer.basedOn != null && answer.basedOn !== poll.cursor) return true
  return answer.position != null && answer.position < poll.position
}

/** Record news; the first result of a key is the initial state, not a change. */
export function noteChange(poll: PollState, now: number): void {
  if (poll.answeredAt !== null) poll.changedAt = now
  poll.idleSince = now
  poll.fastLoop.news()
}

/** Cancel the next poll. */
export function cancel(poll: PollState): void {
  poll.timer = poll.due = null
  poll.queued = false
}

/** The polls that have such a time, earliest first; polls with equal times in the order of their registration. */
export function byTime(polls: PollState[], time: (poll: PollState) => number | null): PollState[] {
  const timed = polls.filter((poll) => time(poll) !== null)
  return timed.sort((one, other) => (time(one) ?? 0) - (time(other) ?? 0) || one.order - other.order)
}
