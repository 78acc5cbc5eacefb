import { decoded } from '../answers.js'
import { connect, type FeedFilter, type FeedTransport, type FollowOptions, sleep } from '../feed.js'
import { retryDelayMs } from '../policy.js'
import type { Project } from '../project.js'
import { given } from '../request.js'
import type { FeedAnswer, FeedEntry, FileListing, PresenceEvent } from '../wire.js'
import type { Listener, PollingManager } from './manager.js'
import { canShare, connectShared } from './shared-stream.js'

/**
 * How to learn of changes: by timed polls, by long polls, or by one event stream for the whole project. `auto` uses the
 * event stream, and falls back to the others if it does not work.
 */
export type PollTransport = 'poll' | FeedTransport | 'auto'

/** Whether an entry of the feed is a reason to poll a key. */
export type Interest = (entry: FeedEntry) => boolean

/** Called when the clients in a file change. */
type PresenceListener = (event: PresenceEvent) => void

/** What a key needs from the feed besides signals. */
interface Wishes {
  presence?: PresenceListener
  /** Small updates, contained in the entries that are passed to its `Interest`. */
  updates?: boolean
}

/**
 * The change feed of a project, followed once for all polls of a manager that use it. The feed signals the keys that an
 * entry concerns. While the feed is disconnected, the keys are polled at their intervals. The feed is suspended while
 * the manager does not poll.
 */
class ProjectFeed implements Listener {
  private readonly interests = new Map<string, Interest>()
  private readonly presence = new Map<string, PresenceListener>()
  private readonly updates = new Set<string>()
  private readonly transports: readonly FeedTransport[]
  private following: AbortController | null = null
  private cursor: string | null = null
  private live = false
  /** The filter of the open feed: what it delivers besides files and turns. */
  private told: FeedFilter = {}

  constructor(
    private readonly manager: PollingManager,
    private readonly project: Project,
    transport: FeedTransport | 'auto',
    private readonly name: string
  ) {
    this.transports = transport === 'auto' ? ['sse', 'long-poll'] : [transport]
  }

  /** Signal a registered key from now on; returns a function that ends this. */
  join(key: string, interest: Interest, { presence, updates = false }: Wishes): () => void {
    this.interests.set(key, interest)
    if (presence !== undefined) this.presence.set(key, presence)
    if (updates) this.updates.add(key)
    const lacking = (presence !== undefined && !this.tellsPresence) || (updates && this.told.include === undefined)
    if (lacking && this.following !== null) this.suspend(true) // reconnect with the new filter
    if (this.live) this.upgrade(key, true)
    this.suspend(this.manager.suspended)
    return () => {
      if (this.interests.get(key) !== interest) return
      this.interests.delete(key)
      this.presence.delete(key)
      this.updates.delete(key)
      if (this.live) this.manager.upgrade(key, false)
      if (this.interests.size > 0) return
      this.suspend(true)
      this.manager.removeListener(this.name)
    }
  }

  suspend(suspended: boolean): void {
    if (suspended) {
      this.following?.abort()
      this.following = null
      this.setLive(false)
    } else if (this.following === null && this.interests.size > 0) {
      this.following = new AbortController()
      void this.follow(this.following.signal)
    }
  }

  private async follow(signal: AbortSignal): Promise<void> {
    let failed = 0 // the number of transports that have failed since the last success
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      const transport = this.transports[failed % this.transports.length] ?? 'sse'
      this.told = this.question(transport)
      let hint = 0
      try {
        const answers = await this.connect(transport, signal)
        failed += 1
        for await (const answer of answers) {
          if (signal.aborted) return
          this.cursor = answer.cursor
          this.tell(answer)
          if (answer.more) continue
          this.setLive(true)
          attempt = failed = 0
        }
      } catch (error) {
        if (signal.aborted) return
        hint = (error as { retryAfterS?: number }).retryAfterS ?? 0
      }
      this.setLive(false)
      const delay = retryDelayMs(this.manager.settings, Math.max(attempt, 1), Math.random(), hint)
      await sleep(delay, signal).catch(() => undefined)
    }
  }

  /** The filter to request. Only an event stream can deliver presence. */
  private question(transport: FeedTransport): FeedFilter {
    return {
      ...(transport === 'sse' && this.presence.size > 0 ? { kinds: ['file', 'turn', 'presence'] as const } : {}),
      ...(this.updates.size > 0 ? { include: 'update' as const } : {})
    }
  }

  /** Follow the feed from the last cursor, sharing the stream with the other pages of the browser if possible. */
  private async connect(transport: FeedTransport, signal: AbortSignal): Promise<AsyncGenerator<FeedAnswer, void>> {
    const { project } = this
    const sharing = canShare()
    let view: string | null = null
    if (this.cursor === null || sharing) {
      const head = await project.client.send('GET', `${project.path}/files`, { ...given(signal), params: { limit: 1 } })
      this.cursor ??= (await decoded<FileListing>(head)).cursor
      view = head.headers.get('X-View')
    }
    const asked: FollowOptions = {
      ...this.told,
      ...(this.tellsPresence ? { onPresence: this.hear } : {}),
      since: this.cursor,
      signal,
      transport
    }
    if (sharing && view !== null) return connectShared(project, { ...asked, view })
    return connect(project.client, `${project.path}/changes`, asked)
  }

  private get tellsPresence(): boolean {
    return this.told.kinds !== undefined
  }

  /** Signal the keys that an answer concerns. */
  private tell(answer: FeedAnswer): void {
    for (const [key, interest] of [...this.interests]) {
      if (answer.reset || answer.changes.some(interest)) this.manager.signal(key)
    }
  }

  private readonly hear = (event: PresenceEvent): void => {
    for (const listener of [...this.presence.values()]) listener(event)
  }

  private setLive(live: boolean): void {
    if (live === this.live) return
    this.live = live
    for (const key of [...this.interests.keys()]) this.upgrade(key, live)
  }

  /** Set whether the keys are polled on signals only. Only an event stream signals presence. */
  private upgrade(key: string, live: boolean): void {
    if (!this.presence.has(key)) this.manager.upgrade(key, live)
    else if (this.tellsPresence) {
      this.manager.upgrade(key, live)
      if (live) this.manager.signal(key) // clients may have left in the meantime
    }
  }
}

/** Let the feed of a project signal a key; returns a function that ends this. Does nothing for `poll`. */
export function joinFeed(
  manager: PollingManager,
  project: Project,
  transport: PollTransport,
  key: string,
  interest: Interest,
  wishes: Wishes = {}
): () => void {
  if (transport === 'poll') return () => undefined
  const name = `feed ${transport} ${project.url}`
  return manager.listener(name, () => new ProjectFeed(manager, project, transport, name)).join(key, interest, wishes)
}
