/** The events of one turn, followed to its end over as many connections as that takes. */
import { GatewayError, NoAnswer, UnexpectedAnswer } from './errors.js'
import { SILENCE_MS, SilenceLimit, sleep } from './feed.js'
import { DEFAULT_SETTINGS, isRetried, retryDelayMs } from './policy.js'
import type { RequestOptions, Sender } from './request.js'
import type { Block, BlockDelta, TurnProgress } from './wire.js'

/** An event of a turn. A block whose `index` was yielded before replaces that block. */
export type TurnEvent =
  | { type: 'block'; block: Block }
  | ({ type: 'delta' } & BlockDelta)
  | ({ type: 'status' } & TurnProgress)

/** The options of a followed turn. */
export interface FollowTurnOptions extends RequestOptions {
  /** The number of blocks to leave out because the client has them. */
  afterBlock?: number
}

/** Yield what happens in a turn, until it has ended, retrying after failures with the back-off of the policy. */
export async function* followTurn(
  client: Sender,
  path: string,
  { afterBlock = 0, signal }: FollowTurnOptions
): AsyncGenerator<TurnEvent, void> {
  const follower = new Follower(afterBlock)
  let attempts = 0
  while (true) {
    try {
      for await (const event of connect(client, path, follower, signal)) {
        attempts = 0
        yield event
        if (follower.ended) return
      }
    } catch (error) {
      if (!(error instanceof GatewayError) || !isRetried(error.status)) throw error
      attempts += 1
      const delay = retryDelayMs(DEFAULT_SETTINGS, attempts, Math.random(), error.retryAfterS)
      await sleep(Math.max(delay, (error.backoffS ?? 0) * 1000), signal)
    }
  }
}

/** What a client has of a turn. The gateway may send again what was growing when a connection broke. */
class Follower {
  cursor: string
  ended = false
  private status = ''
  /** The contents of the blocks that may be sent again, by index. */
  private readonly known = new Map<number, unknown>()

  constructor(afterBlock: number) {
    this.cursor = String(afterBlock)
  }

  /** Yield what is new in an event. */
  *take(kind: string, data: string, cursor: string | null): Generator<TurnEvent> {
    if (kind === 'reset') this.known.clear()
    else if (kind === 'status') yield* this.takeStatus(JSON.parse(data) as TurnProgress)
    else if (kind === 'delta') yield this.takeDelta(JSON.parse(data) as BlockDelta)
    else if (kind === 'block') yield* this.takeBlock(JSON.parse(data) as Block)
    if (cursor === null) return
    this.cursor = cursor
    const stable = Number.parseInt(cursor, 10)
    for (const index of this.known.keys()) if (index < stable) this.known.delete(index)
  }

  private *takeStatus(progress: TurnProgress): Generator<TurnEvent> {
    this.ended = progress.status !== 'pending' && progress.status !== 'running'
    if (progress.status === this.status) return
    this.status = progress.status
    yield { type: 'status', ...progress }
  }

  private takeDelta(delta: BlockDelta): TurnEvent {
    const known = this.known.get(delta.index)
    if (typeof known === 'string') this.known.set(delta.index, known + delta.delta)
    return { type: 'delta', ...delta }
  }

  private *takeBlock(block: Block): Generator<TurnEvent> {
    const { index, content } = block
    const known = this.known.get(index)
    this.known.set(index, content)
    if (typeof known === 'string' && typeof content === 'string' && content.startsWith(known)) {
      if (content !== known) yield { type: 'delta', index, delta: content.slice(known.length) }
    } else if (known === undefined || JSON.stringify(known) !== JSON.stringify(content)) yield { type: 'block', block }
  }
}

/** Yield the events of one connection, until it breaks. */
async function* connect(
  client: Sender,
  path: string,
  follower: Follower,
  outer: AbortSignal | undefined
): AsyncGenerator<TurnEvent, never> {
  const silence = new SilenceLimit(outer)
  try {
    silence.allow(SILENCE_MS)
    const headers = { Accept: 'text/event-stream', 'Last-Event-ID': follower.cursor }
    const answer = await client.open(path, { signal: silence.signal, headers })
    if (!(answer.headers.get('content-type') ?? '').startsWith('text/event-stream') || answer.body === null) {
      throw new UnexpectedAnswer(answer.status, 'it is no event stream')
    }
    yield* read(answer.body, follower, silence)
    throw new NoAnswer('the event stream has ended')
  } catch (error) {
    if (outer?.aborted) throw outer.reason
    throw error instanceof GatewayError ? error : new NoAnswer(`the event stream broke off: ${error}`, { cause: error })
  } finally {
    silence.end()
  }
}

async function* read(
  body: ReadableStream<Uint8Array>,
  follower: Follower,
  silence: SilenceLimit
): AsyncGenerator<TurnEvent, void> {
  const decoder = new TextDecoder()
  const reader = body.getReader()
  let rest = ''
  try {
    while (true) {
      const { done, value } = await reader.read()
      if (done) return
      silence.allow(SILENCE_MS)
      const events = (rest + decoder.decode(value, { stream: true })).split('\n\n')
      rest = events.pop() ?? ''
      for (const event of events)
        yield* follower.take(field(event, 'event') ?? '', field(event, 'data') ?? '', field(event, 'id'))
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

/** A field of an event; the gateway writes each field at most once. */
function field(event: string, name: string): string | null {
  const line = event.split('\n').find((each) => each.startsWith(`${name}: `))
  return line?.slice(name.length + 2) ?? null
}
