import type { Project } from '../project.js'
import type { FeedEntry, Session } from '../wire.js'
import { pollingManager } from './manager.js'
import { joinFeed } from './project-feed.js'
import type { Polled, Subscription } from './subscription.js'
import type { PollerOptions } from './turn-poller.js'

/** Follows which sessions of a project are the newest. The feed reports a session when its first turn is created. */
export class SessionsPoller {
  private readonly subscription: Subscription<Session[]>
  private readonly leaveFeed: () => void
  private readonly manager
  private readonly key: string
  private known: Session[] | null = null

  /** @param onSessions called with the newest sessions whenever the list has changed. */
  constructor(
    project: Project,
    private readonly list: (signal: AbortSignal) => Promise<Session[]>,
    onSessions: (sessions: Session[]) => unknown,
    limit: number,
    options: PollerOptions = {}
  ) {
    const { manager = pollingManager, transport = 'poll', interval } = options
    this.manager = manager
    this.key = `sessions ${project.url} ${limit}`
    this.subscription = manager.register(this.key, ({ signal }) => this.poll(signal), interval, {
      ...options,
      onResult: onSessions
    })
    const isNew = (entry: FeedEntry) => entry.kind === 'turn' && !this.known?.some(({ id }) => id === entry.session_id)
    this.leaveFeed = joinFeed(manager, project, transport, this.key, isNew)
  }

  /** Poll immediately. */
  refresh(): Promise<Session[]> {
    return this.manager.refresh(this.key)
  }

  /** Stop polling: the request in flight is aborted, and no callback is called. */
  stop(): void {
    this.leaveFeed()
    this.subscription.unregister()
  }

  private async poll(signal: AbortSignal): Promise<Polled<Session[]>> {
    const sessions = await this.list(signal)
    const changed = JSON.stringify(sessions) !== JSON.stringify(this.known)
    this.known = sessions
    return { value: sessions, changed }
  }
}
