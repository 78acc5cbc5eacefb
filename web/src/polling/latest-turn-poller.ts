import type { Project } from '../project.js'
import type { TurnSummary } from '../wire.js'
import { pollingManager } from './manager.js'
import { joinFeed } from './project-feed.js'
import type { PollFunction, Subscription } from './subscription.js'
import type { PollerOptions } from './turn-poller.js'

/** Follows which turn of a session is the newest. */
export class LatestTurnPoller {
  private readonly subscription: Subscription<TurnSummary>
  private readonly leaveFeed: () => void
  private readonly manager
  private readonly key: string

  /** @param onTurn called with the newest turn whenever there is a newer one, without its blocks. */
  constructor(project: Project, session: string, onTurn: (turn: TurnSummary) => unknown, options: PollerOptions = {}) {
    const { manager = pollingManager, transport = 'poll', interval = manager.settings.turnIntervalMs } = options
    this.manager = manager
    this.key = `latest turn ${project.url} ${session}`
    const onResult = (turn: TurnSummary | undefined) => turn && onTurn(turn)
    const poll = pollLatest(project, session)
    this.subscription = manager.register(this.key, poll, interval, { ...options, onResult })
    const interest = (entry: { kind: string; session_id?: string }) => entry.session_id === session
    this.leaveFeed = joinFeed(manager, project, transport, this.key, interest)
  }

  /** Poll immediately. */
  refresh(): Promise<TurnSummary> {
    return this.manager.refresh(this.key)
  }

  /** Stop polling: the request in flight is aborted, and no callback is called. */
  stop(): void {
    this.leaveFeed()
    this.subscription.unregister()
  }
}

function pollLatest(project: Project, session: string): PollFunction<TurnSummary> {
  return async ({ cursor, signal }) => {
    const [turn] = (await project.listTurns(session, { limit: 1, signal })).turns
    return turn === undefined || turn.id === cursor ? { changed: false } : { value: turn, cursor: turn.id }
  }
}
