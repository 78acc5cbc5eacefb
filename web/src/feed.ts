/** The change feed without end: by long polls, or as server-sent events (WHATWG HTML §9.2). */
import { decoded } from './answers.js'
import { GatewayError, NoAnswer, UnexpectedAnswer } from './errors.js'
import { checkedPath } from './names.js'
import { DEFAULT_SETTINGS, FastLoop, isRetried, retryDelayMs } from './policy.js'
import { given, type RequestOptions, type Sender } from './request.js'
import type { FeedAnswer, FeedEntry, PresenceEvent } from './wire.js'

/** What is to be seen of the feed; left out: all of it. */
export interface FeedFilter {
  kinds?: readonly ('file' | 'turn' | 'presence')[]
  prefix?: string
  paths?: readonly string[]
  /** `update`: small updates of modified files are part of their entries. */
  include?: 'update'
}

/** How the feed is told: as server-sent events, or by requests that wait. */
export type FeedTransport = 'sse' | 'long-poll'

export interface FollowOptions extends FeedFilter, RequestOptions {
  /** Where to begin; left out: with all that exists. */
  since?: string | null
  transport?: FeedTransport
  /** Of server-sent events: the id of this browser (`enablePush`), which gets no push messages meanwhile. */
  client?: string
  /** Told who is in a file where that changes, if `kinds` has `presence` and the feed comes as server-sent events. */
  onPresence?: (event: PresenceEvent) => void
}

const WAIT_S = 50
/** A stream that is not ready by then goes through something that buffers it. */
const READY_MS = 10_000
/** The gateway sends a sign of life every 15 s. */
export const SILENCE_MS = 40_000

export function feedParams({ kinds, prefix, paths, include }: FeedFilter) {
  return { kinds: kinds?.join(','), prefix, path: paths?.map(checkedPath), include }
}

/** What changes after a cursor, for ever. After a failure it waits as long as the policy says and goes on. */
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
 * What changes after a cursor, until something fails. Answers without a change are signs of life.
 *
 * @throws GatewayError
 */
export function connect(client: Sender, path: string, options: FollowOptions): AsyncGenerator<FeedAnswer, void> {
  return options.transport === 'long-poll' ? longPolls(client, path, options) : events(client, path, options)
}

async function* longPolls(client: Sender, path: string, options: FollowOptions): AsyncGenerator<FeedAnswer, never> {
  const fast = new FastLoop(DEFAULT_SETTINGS)
  let since = options.since ?? null
  let wait = 0 // the first answer comes at once
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

/** Aborts a stream that has been silent for too long, or that nobody reads any more. */
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

  /** From now on so much silence is allowed. */
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

/** Makes stretches of the feed out of the text of an event stream. */
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

  /** What the end of the stream is thrown as. */
  ended(): NoAnswer {
    const error = new NoAnswer('the event stream has ended')
    error.retryAfterS = this.retryMs / 1000
    return error
  }

  /** What a further piece of the stream completes. */
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

/** Wait; throws the signal's reason when it aborts. */
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
