/** The endless change feed, by long polls or as server-sent events (WHATWG HTML §9.2). */
import { decoded } from './answers.js'
import { GatewayError, NoAnswer, UnexpectedAnswer } from './errors.js'
import { checkedPath } from './names.js'
import { DEFAULT_SETTINGS, FastLoop, isRetried, retryDelayMs } from './policy.js'
import { given, type RequestOptions, type Sender } from './request.js'
import type { FeedAnswer, FeedEntry, PresenceEvent } from './wire.js'

/** The filter of a feed. Default: everything. */
export interface FeedFilter {
  kinds?: readonly ('file' | 'turn' | 'presence')[]
  prefix?: string
  paths?: readonly string[]
  /** `update`: entries of modified files contain their updates, if these are small. */
  include?: 'update'
}

/** How the feed is received: as server-sent events, or by long polls. */
export type FeedTransport = 'sse' | 'long-poll'

/** The options of a followed feed. */
export interface FollowOptions extends FeedFilter, RequestOptions {
  /** The cursor to start at. Default: all existing files and turns. */
  since?: string | null
  transport?: FeedTransport
  /**
   * With server-sent events: the id of this browser (`enablePush`), which gets no push messages while the stream is
   * open.
   */
  client?: string
  /**
   * Called when the clients in a file change, if `kinds` includes `presence` and the feed is received as server-sent
   * events.
   */
  onPresence?: (event: PresenceEvent) => void
}

const WAIT_S = 50
/** A stream that is not ready within this time passes through a proxy that buffers it. */
const READY_MS = 10_000
/** The gateway sends a heartbeat every 15 s. */
export const SILENCE_MS = 40_000

export function feedParams({ kinds, prefix, paths, include }: FeedFilter) {
  return { kinds: kinds?.join(','), prefix, path: paths?.map(checkedPath), include }
}

/** Yield the changes after a cursor, forever, retrying after failures with the back-off of the policy. */
export async function* follow(client: Sender, path: string, options: FollowOptions): AsyncGenerator<FeedAnswer, never> {
  let since = options.since ?? null
  let attempts = 0
  while (true) {
    try {
      for await (const answer of connect(client, path, { ...options, since })) {
        attempts = 0
        if (answer.changes.length > 0 || answer.reset) yield answer
        since = answer.cursor
      }
    } catch (error) {
      if (!(error instanceof GatewayError) || !isRetried(error.status)) throw error
      attempts += 1
      const delay = retryDelayMs(DEFAULT_SETTINGS, attempts, Math.random(), error.retryAfterS)
      await sleep(Math.max(delay, (error.backoffS ?? 0) * 1000), options.signal)
    }
  }
}

/**
 * Yield the changes after a cursor, until the first failure. An answer without changes is a heartbeat.
 *
 * @throws GatewayError
 */
export function connect(client: Sender, path: string, options: FollowOptions): AsyncGenerator<FeedAnswer, void> {
  return options.transport === 'long-poll' ? longPolls(client, path, options) : events(client, path, options)
}

async function* longPolls(client: Sender, path: string, options: FollowOptions): AsyncGenerator<FeedAnswer, never> {
  const fast = new FastLoop(DEFAULT_SETTINGS)
  let since = options.since ?? null
  let wait = 0 // the first response comes immediately
  while (true) {
    const params = { ...feedParams(options), since, wait: wait || null }
    const answer = await decoded<FeedAnswer>(await client.send('GET', path, { ...given(options.signal), wait, params }))
    yield answer
    since = answer.cursor
    wait = WAIT_S
    if (answer.changes.length > 0) fast.news()
    else if (fast.empty(performance.now())) {
      throw new UnexpectedAnswer(503, 'long polls come back at once, and bring nothing')
    }
  }
}

async function* events(client: Sender, path: string, options: FollowOptions): AsyncGenerator<FeedAnswer, void> {
  const silence = new SilenceLimit(options.signal)
  try {
    silence.allow(READY_MS)
    const headers = { Accept: 'text/event-stream', 'Last-Event-ID': options.since }
    const request = { signal: silence.signal, headers, params: { ...feedParams(options), client: options.client } }
    const answer = await client.open(path, request)
    if (!(answer.headers.get('content-type') ?? '').startsWith('text/event-stream') || answer.body === null) {
      throw new UnexpectedAnswer(answer.status, 'it is no event stream')
    }
    yield* readEvents(answer.body, silence, options.onPresence)
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason
    throw error instanceof GatewayError ? error : new NoAnswer(`the event stream broke off: ${error}`, { cause: error })
  } finally {
    silence.end()
  }
}

/** Aborts a stream that was silent for too long, or whose reader has stopped. */
export class SilenceLimit {
  private readonly controller = new AbortController()
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly outer: AbortSignal | undefined) {
    if (outer?.aborted) this.controller.abort(outer.reason)
    outer?.addEventListener('abort', this.end)
  }

  get signal(): AbortSignal {
    return this.controller.signal
  }

  /** Set the allowed duration of silence, from now on. */
  allow(milliseconds: number): void {
    clearTimeout(this.timer)
    const silent = () => this.controller.abort(new NoAnswer(`the event stream was silent for ${milliseconds} ms`))
    this.timer = setTimeout(silent, milliseconds)
  }

  readonly end = (): void => {
    clearTimeout(this.timer)
    this.outer?.removeEventListener('abort', this.end)
    this.controller.abort(this.outer?.reason)
  }
}

async function* readEvents(
  body: ReadableStream<Uint8Array>,
  silence: SilenceLimit,
  onPresence: FollowOptions['onPresence']
): AsyncGenerator<FeedAnswer, void> {
  const parser = new EventParser(onPresence)
  const decoder = new TextDecoder()
  const reader = body.getReader()
  try {
    while (true) {
      const { done, value } = await reader.read()
      if (done) throw parser.ended()
      yield* parser.take(decoder.decode(value, { stream: true }))
      silence.allow(parser.ready ? SILENCE_MS : READY_MS)
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

/** Parses the text of an event stream into sections of the feed. */
class EventParser {
  /** Whether the client has caught up. */
  ready = false
  private rest = ''
  private retryMs = 0
  private reset = false
  private kind = ''
  private data: string[] = []
  private id: string | null = null

  constructor(private readonly onPresence: FollowOptions['onPresence']) {}

  /** The error for the end of the stream. */
  ended(): NoAnswer {
    const error = new NoAnswer('the event stream has ended')
    error.retryAfterS = this.retryMs / 1000
    return error
  }

  /** Yield the answers that the next piece of text completes. */
  *take(text: string): Generator<FeedAnswer> {
    const lines = (this.rest + text).split('\n')
    this.rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line !== '' && line !== '\r') this.takeField(line.replace(/\r$/, ''))
      else yield* this.dispatch()
    }
  }

  private takeField(line: string): void {
    const colon = line.indexOf(':')
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'retry') this.retryMs = Number(value)
    else if (name === 'id') this.id = value
    else if (name === 'event') this.kind = value
    else if (name === 'data') this.data.push(value)
  }

  private *dispatch(): Generator<FeedAnswer> {
    this.ready ||= this.kind === 'ready'
    this.reset ||= this.kind === 'reset'
    if (this.kind === 'presence') this.onPresence?.(JSON.parse(this.data.join('\n')) as PresenceEvent)
    if (this.id !== null) {
      const changes = this.kind === 'change' ? [JSON.parse(this.data.join('\n')) as FeedEntry] : []
      yield { changes, cursor: this.id, more: changes.length > 0, ...(this.reset ? { reset: true } : {}) }
      this.reset = false
    }
    this.kind = ''
    this.data = []
    this.id = null
  }
}

/** Wait for this long. Throws the reason of the signal if it aborts. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    if (signal?.aborted) return reject(signal.reason)
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, milliseconds)
    signal?.addEventListener('abort', abort, { once: true })
  })
}
