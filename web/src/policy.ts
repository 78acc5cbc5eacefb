/**
 * The rules of polling, pure: settings, intervals, retries, and what is decided. All times are milliseconds, but those
 * whose names end in `S`, which are seconds as in headers.
 *
 * `PollSchedule` applies them to many polls. The Python client has the same rules, and both run the same vectors.
 */

/**
 * Why a poll stopped: its turn ended; nothing changed for long; every retry failed; an answer that no retry changes;
 * the user went away.
 */
export type StopReason = 'completed' | 'timed_out' | 'failed' | 'refused' | 'inactive'

export const RESTARTED_BY_TOUCH: ReadonlySet<StopReason> = /* @__PURE__ */ new Set(['timed_out', 'failed', 'inactive'])
export const RESTARTED_BY_RESUME: ReadonlySet<StopReason> = /* @__PURE__ */ new Set([
  'timed_out',
  'failed',
  'inactive',
  'refused'
])

/** All times of the policy. */
export interface PollSettings {
  turnIntervalMs: number
  documentIntervalMs: number
  /** The interval after a change … */
  activeIntervalMs: number
  /** … for so long; after that it grows … */
  activeMs: number
  /** … evenly within so long … */
  slowingMs: number
  /** … to this. */
  slowIntervalMs: number
  /** After so much polling without a change a poll stops; null: never. */
  idleStopMs: number | null
  retryDelaysMs: readonly number[]
  /** Go on with the last delay where the table stops. */
  retryForEver: boolean
  retryJitter: number
  /** A result younger than this answers who comes late. */
  cacheMs: number
  maxConcurrent: number
  /** What intervals are multiplied by on a phone, with a low battery, or where data is to be saved. */
  constrainedFactor: number
  /** When the user has done nothing for so long all polls stop; null: there is no user. */
  inactiveStopMs: number | null
  fastLoopPolls: number
  fastLoopMs: number
}

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

/** For a program that nobody sits in front of: it never stops for want of a user, and retries for ever. */
export const UNATTENDED: Readonly<Partial<PollSettings>> = {
  idleStopMs: null,
  inactiveStopMs: null,
  retryForEver: true
}

/** What a poll brought. */
export interface Answer {
  /** Whether it is news; false for a 304. */
  changed: boolean
  /** Whether nothing will ever change again. */
  terminal?: boolean
  /** Where the next poll goes on; kept once the news was delivered. */
  cursor?: string | null
  /** The cursor that the question was asked with. */
  basedOn?: string | null
  /** A version, or another number that only grows. */
  position?: number | null
  /** The server's `Backoff`. */
  backoffS?: number | null
  /** Whether the thing is at work, as a turn that is pending or running: polled as after a change, also at first. */
  active?: boolean
}

/** How a poll failed. `status` is null where no answer came. */
export interface Failure {
  status: number | null
  retryAfterS?: number | null
  backoffS?: number | null
}

/** What is to be done. */
export type Decision =
  /** Ask now. */
  | { do: 'poll'; key: string }
  /** Give the newest result to these; then, unless it is `cached`, say so (`PollSchedule.delivered`). */
  | { do: 'deliver'; key: string; to: string[]; cached?: true }
  /** The answer is older than what was delivered: forget it. */
  | { do: 'drop'; key: string }
  /** Tell these of the error. Without `retryIn` there is no further retry. */
  | { do: 'fail'; key: string; to: string[]; retryIn?: number }
  /** The error is over. */
  | { do: 'recover'; key: string }
  /** The poll has stopped. */
  | { do: 'stop'; key: string; reason: StopReason }
  /** Nobody wants the answer of the request in flight. */
  | { do: 'abort'; key: string }
  /** Polls follow each other without pause and bring nothing; they are slowed down. Say so. */
  | { do: 'warn_fast_loop'; key: string }

/**
 * How long after an answer the next poll is due.
 *
 * @param askedMs the shortest interval that a subscriber asked for. Polled at as long as no change was seen. One that
 *   is shorter than the active interval, or longer than the slow one, takes its place.
 * @param sinceChangeMs the age of the last change; null if none was seen.
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

/** How long to wait before retry `attempt` (1, 2, …). `random` is from 0 to 1. */
export function retryDelayMs(
  settings: PollSettings,
  attempt: number,
  random: number,
  retryAfterS: number | null = null
): number {
  const delay = settings.retryDelaysMs[Math.min(attempt, settings.retryDelaysMs.length) - 1] ?? 0
  return Math.max(delay * (1 + settings.retryJitter * (2 * random - 1)), (retryAfterS ?? 0) * 1000)
}

/** Whether no retry follows after so many. */
export function givesUp(settings: PollSettings, attempts: number): boolean {
  return !settings.retryForEver && attempts >= settings.retryDelaysMs.length
}

/** Whether a request that failed like this may succeed later: no answer (null), 5xx, 408, 429. */
export function isRetried(status: number | null): boolean {
  return status === null || status >= 500 || status === 408 || status === 429
}

/**
 * What to do about a write that the server refused. An update that builds on something the server lacks is answered
 * once with all that it lacks.
 */
export function afterRefusedWrite(code: string, differenceSent: boolean): 'send_difference' | 'report' {
  return code === 'missing_predecessors' && !differenceSent ? 'send_difference' : 'report'
}

/** Notices polls that follow each other without pause and bring nothing. */
export class FastLoop {
  /** How often, since something new came. */
  found = 0
  private times: number[] = []

  constructor(private readonly settings: PollSettings) {}

  /** A poll brought nothing; returns whether there have been too many in too short a time. */
  empty(now: number): boolean {
    this.times = [...this.times, now].slice(-this.settings.fastLoopPolls)
    const first = this.times[0] ?? now
    if (this.times.length < this.settings.fastLoopPolls || now - first > this.settings.fastLoopMs) return false
    this.times = []
    this.found += 1
    return true
  }

  /** A poll brought something. */
  news(): void {
    this.times = []
    this.found = 0
  }
}
