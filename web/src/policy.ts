/**
 * The polling policy, without I/O: settings, intervals, retries and decisions. Times are in milliseconds, except those
 * whose names end in `S`, which are in seconds, as in headers.
 *
 * `PollSchedule` applies the policy to many polls. The Python client has the same rules, and both are tested with the
 * same vectors.
 */

/**
 * Why a poll stopped: its turn ended; nothing changed for a long time; every retry failed; the gateway refused with an
 * error that is not retried; the user was inactive.
 */
export type StopReason = 'completed' | 'timed_out' | 'failed' | 'refused' | 'inactive'

/** The reasons after which user activity restarts a poll. */
export const RESTARTED_BY_TOUCH: ReadonlySet<StopReason> = /* @__PURE__ */ new Set(['timed_out', 'failed', 'inactive'])
/** The reasons after which showing the page again restarts a poll. */
export const RESTARTED_BY_RESUME: ReadonlySet<StopReason> = /* @__PURE__ */ new Set([
  'timed_out',
  'failed',
  'inactive',
  'refused'
])

/** The settings of the policy. */
export interface PollSettings {
  /** The interval of turn polls until the first change. */
  turnIntervalMs: number
  /** The interval of document polls until the first change. */
  documentIntervalMs: number
  /** The interval right after a change. */
  activeIntervalMs: number
  /** How long after a change the interval stays at `activeIntervalMs`. */
  activeMs: number
  /** How long the interval then takes to grow linearly to `slowIntervalMs`. */
  slowingMs: number
  /** The interval long after a change. */
  slowIntervalMs: number
  /** How long a poll goes on without a change before it stops; null: forever. */
  idleStopMs: number | null
  /** The delay before each retry, in order. */
  retryDelaysMs: readonly number[]
  /** Whether to keep retrying with the last delay after the table is exhausted. */
  retryForEver: boolean
  /** The largest random deviation of a delay, as a fraction of the delay. */
  retryJitter: number
  /** A late subscriber gets a cached result if it is younger than this. */
  cacheMs: number
  /** How many requests may be in flight at once. */
  maxConcurrent: number
  /** The factor for intervals on a phone, on low battery, or in data-saving mode. */
  constrainedFactor: number
  /** After how long without user activity all polls stop; null: there is no user. */
  inactiveStopMs: number | null
  /** The number of polls without news that form a fast loop. */
  fastLoopPolls: number
  /** The time within which these polls must occur. */
  fastLoopMs: number
}

/** The default settings. */
export const DEFAULT_SETTINGS: Readonly<PollSettings> = {
  turnIntervalMs: 2_000,
  documentIntervalMs: 3_000,
  activeIntervalMs: 1_000,
  activeMs: 30_000,
  slowingMs: 30_000,
  slowIntervalMs: 5_000,
  idleStopMs: 120_000,
  retryDelaysMs: [2_000, 4_000, 8_000, 16_000, 16_000],
  retryForEver: false,
  retryJitter: 0.1,
  cacheMs: 500,
  maxConcurrent: 3,
  constrainedFactor: 2,
  inactiveStopMs: 300_000,
  fastLoopPolls: 5,
  fastLoopMs: 500
}

/** Settings for a program without a user: polls never stop for inactivity, and retry forever. */
export const UNATTENDED: Readonly<Partial<PollSettings>> = {
  idleStopMs: null,
  inactiveStopMs: null,
  retryForEver: true
}

/** The result of a poll. */
export interface Answer {
  /** Whether the answer contains news; false for a 304. */
  changed: boolean
  /** Whether the resource is final and will never change again. */
  terminal?: boolean
  /** Where the next poll continues; adopted once the news has been delivered. */
  cursor?: string | null
  /** The cursor that the request was sent with. */
  basedOn?: string | null
  /** A version, or another number that never decreases. */
  position?: number | null
  /** The server's `Backoff` header. */
  backoffS?: number | null
  /** Whether the resource is active, like a pending or running turn: polled as after a change from the start. */
  active?: boolean
}

/** The failure of a poll. `status` is null if no response came. */
export interface Failure {
  status: number | null
  retryAfterS?: number | null
  backoffS?: number | null
}

/** An action that the schedule asks its caller to carry out. */
export type Decision =
  /** Send the request now. */
  | { do: 'poll'; key: string }
  /** Deliver the newest result to these subscribers; then, unless it is `cached`, call `PollSchedule.delivered`. */
  | { do: 'deliver'; key: string; to: string[]; cached?: true }
  /** Discard the answer: it is older than what was already delivered. */
  | { do: 'drop'; key: string }
  /** Report the error to these subscribers. `retryIn`: milliseconds until the next retry; absent if there is none. */
  | { do: 'fail'; key: string; to: string[]; retryIn?: number }
  /** Report that the error is over. */
  | { do: 'recover'; key: string }
  /** Report that the poll has stopped. */
  | { do: 'stop'; key: string; reason: StopReason }
  /** Abort the request in flight: its last subscriber has left. */
  | { do: 'abort'; key: string }
  /** Warn that polls follow each other without pause and bring nothing; they are slowed down. */
  | { do: 'warn_fast_loop'; key: string }

/**
 * The time from an answer to the next poll.
 *
 * @param askedMs the shortest interval that a subscriber asked for. It applies until the first change is seen. If it is
 *   shorter than the active interval, or longer than the slow interval, it replaces that interval.
 * @param sinceChangeMs the age of the last change; null if there was none.
 */
export function intervalMs(
  settings: PollSettings,
  askedMs: number,
  sinceChangeMs: number | null,
  constrained = false
): number {
  let interval = askedMs
  if (sinceChangeMs !== null) {
    const first = Math.min(settings.activeIntervalMs, askedMs)
    const last = Math.max(settings.slowIntervalMs, askedMs)
    const slowed = (sinceChangeMs - settings.activeMs) / settings.slowingMs
    interval = first + (last - first) * Math.min(Math.max(slowed, 0), 1)
  }
  return constrained ? interval * settings.constrainedFactor : interval
}

/** The delay before retry `attempt` (1, 2, …). `random` is from 0 to 1. */
export function retryDelayMs(
  settings: PollSettings,
  attempt: number,
  random: number,
  retryAfterS: number | null = null
): number {
  const delay = settings.retryDelaysMs[Math.min(attempt, settings.retryDelaysMs.length) - 1] ?? 0
  return Math.max(delay * (1 + settings.retryJitter * (2 * random - 1)), (retryAfterS ?? 0) * 1000)
}

/** Whether no retry follows after this many attempts. */
export function givesUp(settings: PollSettings, attempts: number): boolean {
  return !settings.retryForEver && attempts >= settings.retryDelaysMs.length
}

/** Whether a request that failed with this status may succeed later: no response (null), 5xx, 408, 429. */
export function isRetried(status: number | null): boolean {
  return status === null || status >= 500 || status === 408 || status === 429
}

/**
 * What to do about a write that the server refused. If the update builds on content that the server lacks, the client
 * sends once everything that the server lacks.
 */
export function afterRefusedWrite(code: string, differenceSent: boolean): 'send_difference' | 'report' {
  return code === 'missing_predecessors' && !differenceSent ? 'send_difference' : 'report'
}

/** Detects polls that follow each other without pause and bring nothing. */
export class FastLoop {
  /** The number of fast loops detected since the last news. */
  found = 0
  private times: number[] = []

  constructor(private readonly settings: PollSettings) {}

  /** Record a poll without news; returns whether there were too many in too short a time. */
  empty(now: number): boolean {
    this.times = [...this.times, now].slice(-this.settings.fastLoopPolls)
    const first = this.times[0] ?? now
    if (this.times.length < this.settings.fastLoopPolls || now - first > this.settings.fastLoopMs) return false
    this.times = []
    this.found += 1
    return true
  }

  /** Record a poll with news. */
  news(): void {
    this.times = []
    this.found = 0
  }
}
