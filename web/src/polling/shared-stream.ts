/**
 * One event stream for all pages of a browser that request the same and may see the same: browsers allow six
 * connections to a host over HTTP/1.1, and each stream takes one.
 *
 * One page, the leader, holds a Web Lock and the stream, and forwards what it receives to the other pages through a
 * BroadcastChannel. Each page keeps its own cursor and compares: it requests what it has missed itself, with its own
 * credential. When the leader disappears for any reason, the next page gets the lock and continues from its own cursor.
 */
import { NoAnswer } from '../errors.js'
import { connect, type FollowOptions, feedParams } from '../feed.js'
import type { Project } from '../project.js'
import { given } from '../request.js'
import type { FeedAnswer, PresenceEvent } from '../wire.js'

export interface SharedOptions extends FollowOptions {
  /** What the credential of this page may see, as identified by `X-View`. */
  view: string
  /**
   * Milliseconds for which the leader may be silent before the other pages ask for a sign of life; the gateway sends a
   * heartbeat every 15 s.
   */
  silenceMs?: number
  /** Milliseconds within which the leader must answer, before another page takes its place. */
  answerMs?: number
}

type Message =
  /** A page has joined, and asks for the leader. */
  | { kind: 'hello' }
  /** The leader is alive; `cursor` is its position, null while it is connecting. */
  | { kind: 'at'; cursor: string | null }
  | { kind: 'answer'; from: string | null; answer: FeedAnswer }
  | { kind: 'presence'; event: PresenceEvent }

/** An event for a page that listens. */
type Happening = Message | { kind: 'leads' } | { kind: 'silence' }

/** Whether this page can share a stream with others: it needs a secure context and Web Locks. */
export function canShare(): boolean {
  return (
    typeof window !== 'undefined' &&
    typeof BroadcastChannel !== 'undefined' &&
    typeof navigator !== 'undefined' &&
    navigator.locks !== undefined
  )
}

/**
 * Yield the changes after a cursor, until the first failure, like `connect`.
 *
 * @throws GatewayError
 */
export async function* connectShared(project: Project, options: SharedOptions): AsyncGenerator<FeedAnswer, void> {
  const member = new Member(project, options)
  try {
    yield* member.listen()
    yield* member.lead()
  } finally {
    member.leave()
  }
}

class Member {
  private readonly channel: BroadcastChannel
  private readonly leadership: Leadership
  private readonly happenings: Happenings
  private cursor: string | null
  private isLive = false
  private isAsked = false
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly project: Project,
    private readonly options: SharedOptions
  ) {
    const { view, transport, since = null } = options
    const url = new URL(project.url, typeof location === 'undefined' ? undefined : location.href)
    const name = JSON.stringify(['yjs-gateway', url.href, view, transport, feedParams(options)])
    this.cursor = since
    this.happenings = new Happenings(options.signal)
    this.channel = new BroadcastChannel(name)
    this.channel.onmessage = ({ data }: MessageEvent<Message>) => this.hear(data)
    this.leadership = new Leadership(name, () => this.happenings.note({ kind: 'leads' }))
    this.say({ kind: 'hello' })
    this.expect(options.answerMs ?? 3_000, true)
  }

  /** Yield what the leader forwards, and what this page has missed; ends when this page becomes the leader. */
  async *listen(): AsyncGenerator<FeedAnswer, void> {
    let token = await this.project.client.token?.()
    while (true) {
      const happening = await this.happenings.next()
      // Accept forwarded answers only while this page may request the same itself.
      const current = await this.project.client.token?.()
      if (current !== token) throw new NoAnswer('the credential of this page is another one now')
      token = current
      if (happening.kind === 'leads') return
      if (happening.kind === 'silence') this.hasten()
      else if (happening.kind === 'presence') this.options.onPresence?.(happening.event)
      else if (happening.kind === 'answer') yield* this.take(happening.from, happening.answer)
      else if (happening.kind === 'at' && happening.cursor !== null) {
        const { cursor } = happening
        yield* this.take(cursor, { changes: [], cursor, more: false })
      }
    }
  }

  /** Hold the stream, and forward its answers to the other pages. */
  async *lead(): AsyncGenerator<FeedAnswer, void> {
    clearTimeout(this.timer)
    this.channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if (data.kind === 'hello') this.say({ kind: 'at', cursor: this.isLive ? this.cursor : null })
    }
    this.isLive = false
    this.say({ kind: 'at', cursor: null })
    const { signal, onPresence } = this.options
    const signals = [this.leadership.lost, ...(signal === undefined ? [] : [signal])]
    const { client, path } = this.project
    const stream = connect(client, `${path}/changes`, {
      ...this.options,
      since: this.cursor,
      signal: AbortSignal.any(signals),
      onPresence: (event) => {
        this.say({ kind: 'presence', event })
        onPresence?.(event)
      }
    })
    for await (const answer of stream) {
      this.say({ kind: 'answer', from: this.cursor, answer })
      this.cursor = answer.cursor
      this.isLive ||= !answer.more
      yield answer
    }
  }

  leave(): void {
    clearTimeout(this.timer)
    this.channel.close()
    this.leadership.end()
    this.happenings.end()
  }

  private say(message: Message): void {
    this.channel.postMessage(message)
  }

  private hear(message: Message): void {
    if (message.kind === 'hello') return
    this.isAsked = false
    this.expect(this.options.silenceMs ?? 20_000, false)
    this.happenings.note(message)
  }

  private expect(milliseconds: number, isAsked: boolean): void {
    this.isAsked = isAsked
    clearTimeout(this.timer)
    // Randomized, so that the pages do not all act at once: the first page that replaces a silent leader announces it.
    const patience = milliseconds * (1 + Math.random() / 4)
    this.timer = setTimeout(() => this.happenings.note({ kind: 'silence' }), patience)
  }

  /**
   * The leader is silent: ask for a sign of life. If it was already asked, its page is frozen, and this page takes
   * over.
   */
  private hasten(): void {
    if (this.isAsked) return this.leadership.take()
    this.say({ kind: 'hello' })
    this.expect(this.options.answerMs ?? 3_000, true)
  }

  /**
   * Yield what the leader received after `from`; if this page has not seen everything before that, request what is
   * missing.
   */
  private async *take(from: string | null, answer: FeedAnswer): AsyncGenerator<FeedAnswer, void> {
    if (isAtOrAfter(this.cursor, answer.cursor)) {
      if (!answer.more) yield { changes: [], cursor: this.cursor ?? answer.cursor, more: false }
    } else if (from === this.cursor || isAtOrAfter(this.cursor, from)) {
      this.cursor = answer.cursor
      yield answer
    } else {
      yield* this.catchUp()
    }
  }

  private async *catchUp(): AsyncGenerator<FeedAnswer, void> {
    const { signal, include } = this.options
    let more = true
    while (more) {
      const asked = { ...given(signal), ...(include === undefined ? {} : { include }), since: this.cursor }
      const { value } = await this.project.changes(asked)
      if (value === null) return
      this.cursor = value.cursor
      more = value.more
      yield value
    }
  }
}

/** Whether a reader at `cursor` has seen everything that a reader at `other` has seen. */
function isAtOrAfter(cursor: string | null, other: string | null): boolean {
  if (cursor === null || other === null) return other === cursor
  const [epoch, sequence] = cursor.split('.')
  const [otherEpoch, otherSequence] = other.split('.')
  return epoch === otherEpoch && Number(sequence) >= Number(otherSequence)
}

/** The lock that one page holds at a time. */
class Leadership {
  private readonly loss = new AbortController()
  private readonly waiting = new AbortController()
  private release: () => void = () => undefined
  private readonly held = new Promise<void>((resolve) => {
    this.release = resolve
  })

  constructor(
    private readonly name: string,
    private readonly granted: () => void
  ) {
    this.request({ signal: this.waiting.signal })
  }

  /** Aborts when another page has taken the lock. */
  get lost(): AbortSignal {
    return this.loss.signal
  }

  /** Take the lock from a page that does not answer. */
  take(): void {
    this.waiting.abort()
    this.request({ steal: true })
  }

  end(): void {
    this.waiting.abort()
    this.release()
  }

  private request(options: LockOptions): void {
    let isGranted = false
    const hold = () => {
      isGranted = true
      this.granted()
      return this.held
    }
    navigator.locks.request(this.name, options, hold).catch(() => {
      if (isGranted) this.loss.abort(new NoAnswer('another page leads'))
    })
  }
}

/** The queue of events that have not been handled. */
class Happenings {
  private readonly waiting: Happening[] = []
  private wake: (() => void) | null = null

  constructor(private readonly signal: AbortSignal | undefined) {
    signal?.addEventListener('abort', this.aborted)
  }

  note(happening: Happening): void {
    this.waiting.push(happening)
    this.wake?.()
  }

  /** Throws the reason of the signal. */
  async next(): Promise<Happening> {
    while (true) {
      this.signal?.throwIfAborted()
      const happening = this.waiting.shift()
      if (happening !== undefined) return happening
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
      this.wake = null
    }
  }

  end(): void {
    this.signal?.removeEventListener('abort', this.aborted)
  }

  private readonly aborted = (): void => this.wake?.()
}
