import { type Answer, FastLoop, type PollSettings, type StopReason } from '../policy.js'

/** What the schedule knows of one key: who wants it, and where it stands. */
export class PollState {
  /** By subscriber; those that are held still are not here. */
  readonly intervals = new Map<string, number>()
  readonly subscribers = new Set<string>()
  /** Who is owed a result, news or not: new subscribers and those who asked for a refresh. */
  readonly fresh = new Set<string>()
  readonly fastLoop: FastLoop
  position = Number.NEGATIVE_INFINITY
  answeredAt: number | null = null
  changedAt: number | null = null
  due: number | null = null
  /** A retry, or the end of a fast loop's punishment. */
  notBefore = Number.NEGATIVE_INFINITY
  timer: number | null = null
  queued = false
  inFlight = false
  /** To be polled once more after the request in flight. */
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
    /** When it last had news, or began. */
    public idleSince: number,
    settings: PollSettings,
    public cursor: string | null
  ) {
    this.fastLoop = new FastLoop(settings)
  }

  get busy(): boolean {
    return this.inFlight || this.answer !== null
  }

  /** Who gets news: the subscribers, then those who only asked for this result. */
  receivers(): string[] {
    return [...new Set([...this.intervals.keys(), ...this.fresh])]
  }
}

/** Whether newer news was delivered already. */
export function isStale(poll: PollState, answer: Answer): boolean {
  if (answer.basedOn != null && answer.basedOn !== poll.cursor) return true
  return answer.position != null && answer.position < poll.position
}

/** News came; the first result of all is where things stand, not that something happens. */
export function noteChange(poll: PollState, now: number): void {
  if (poll.answeredAt !== null) poll.changedAt = now
  poll.idleSince = now
  poll.fastLoop.news()
}

/** It is not to be polled, for now. */
export function cancel(poll: PollState): void {
  poll.timer = poll.due = null
  poll.queued = false
}

/** The polls that have such a time, the earliest first; those of one time in the order of their registration. */
export function byTime(polls: PollState[], time: (poll: PollState) => number | null): PollState[] {
  const timed = polls.filter((poll) => time(poll) !== null)
  return timed.sort((one, other) => (time(one) ?? 0) - (time(other) ?? 0) || one.order - other.order)
}
