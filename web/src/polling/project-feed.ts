import { connect, type FeedTransport, sleep } from '../feed.js'
import { retryDelayMs } from '../policy.js'
import type { Project } from '../project.js'
import type { FeedEntry, PresenceEvent } from '../wire.js'
import type { Listener, PollingManager } from './manager.js'

/**
 * How one hears that something changed: by asking again and again, by one request that waits, or by one event stream
 * for the whole project. `auto` takes the stream, and what still works where it does not.
 */
export type PollTransport = 'poll' | FeedTransport | 'auto'

/** Whether an entry of the feed is about what a key polls. */
export type Interest = (entry: FeedEntry) => boolean

/** Who is in a file, as the feed tells it. */
export type PresenceListener = (event: PresenceEvent) => void

/**
 * The change feed of a project, followed once for all polls of a manager that want it: it signals those that an entry
 * is about. As long as it cannot be followed they poll at their intervals. It is suspended while the manager asks
 * nothing.
 */
class ProjectFeed implements Listener {
  private readonly interests = new Map<string, Interest>()
  private readonly presence = new Map<string, PresenceListener>()
  private readonly transports: readonly FeedTransport[]
  private following: AbortController | null = null
  private cursor: string | null = null
  private live = false
  /** Whether the feed that is followed tells who is in the files. */
  private tellsPresence = false

  constructor(
    private readonly manager: PollingManager,
    private readonly project: Project,
    transport: FeedTransport | 'auto',
    private readonly name: string
  ) {
    this.transports = transport === 'auto' ? ['sse', 'long-poll'] : [transport]
  }

  /** A key that is registered with the manager wants to be signalled; returns how to end that. */
  join(key: string, interest: Interest, presence: PresenceListener | null): () => void {
    this.interests.set(key, interest)
    if (presence !== null) {
      this.presence.set(key, presence)
      if (!this.tellsPresence && this.following !== null) this.suspend(true) // it goes on with another question
    }
    if (this.live) this.upgrade(key, true)
    this.suspend(this.manager.suspended)
    return () => {
      if (this.interests.get(key) !== interest) return
      this.interests.delete(key)
      this.presence.delete(key)
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
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      const transport = this.transports[(attempt - 1) % this.transports.length]
      const listening = transport === 'sse' && this.presence.size > 0
      this.tellsPresence = listening
      let hint = 0
      try {
        this.cursor ??= (await this.project.listFiles({ limit: 1, signal })).value?.cursor ?? null
        for await (const answer of connect(this.project.client, `${this.project.path}/changes`, {
          since: this.cursor,
          signal,
          ...(listening ? { kinds: ['file', 'turn', 'presence'] as const, onPresence: this.hear } : {}),
          ...(transport === undefined ? {} : { transport })
        })) {
          if (signal.aborted) return
          this.cursor = answer.cursor
          for (const [key, interest] of this.interests) {
            if (answer.reset || answer.changes.some(interest)) this.manager.signal(key)
          }
          if (answer.more) continue
          this.setLive(true)
          attempt = 0
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

  private readonly hear = (event: PresenceEvent): void => {
    for (const listener of [...this.presence.values()]) listener(event)
  }

  private setLive(live: boolean): void {
    if (live === this.live) return
    this.live = live
    for (const key of [...this.interests.keys()]) this.upgrade(key, live)
  }

  /** Whether the feed tells from now on when to poll a key. Of who is in the files only an event stream tells. */
  private upgrade(key: string, live: boolean): void {
    if (!this.presence.has(key)) this.manager.upgrade(key, live)
    else if (this.tellsPresence) {
      this.manager.upgrade(key, live)
      if (live) this.manager.signal(key) // who has left meanwhile
    }
  }
}

/** Let a key be signalled by the feed of its project; returns how to end that. Nothing is done for `poll`. */
export function joinFeed(
  manager: PollingManager,
  project: Project,
  transport: PollTransport,
  key: string,
  interest: Interest,
  presence: PresenceListener | null = null
): () => void {
  if (transport === 'poll') return () => undefined
  const name = `feed ${transport} ${project.url}`
  return manager.listener(name, () => new ProjectFeed(manager, project, transport, name)).join(key, interest, presence)
}
