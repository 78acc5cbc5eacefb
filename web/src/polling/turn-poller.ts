import type { StopReason } from '../policy.js'
import type { Project } from '../project.js'
import { type Turn, TurnFailed, turnFrom } from '../turn.js'
import { type Block, isFinished, type TurnAnswer } from '../wire.js'
import { type PollingManager, pollingManager } from './manager.js'
import { joinFeed, type PollTransport } from './project-feed.js'
import type { PollCallbacks, PollFunction, Subscription } from './subscription.js'

/** How pollers are run. */
export interface PollerOptions extends Omit<PollCallbacks<never>, 'onResult'> {
  manager?: PollingManager | undefined
  /** Milliseconds. */
  interval?: number | undefined
  transport?: PollTransport | undefined
  /** False: held still until it is enabled. */
  enabled?: boolean | undefined
}

export interface TurnPollerOptions extends PollerOptions {
  /** Called with the turn and all its blocks, and with those that are new, in order, and those that have grown. */
  onUpdate?: ((turn: Turn, blocks: Block[]) => unknown) | undefined
  /** Called with the error of every failed attempt, and with `TurnFailed` when the turn has ended as failed. */
  onError?: ((error: Error) => unknown) | undefined
  /** Called once, after the last update, when the turn has ended. */
  onComplete?: ((turn: Turn) => unknown) | undefined
}

/** Follows a turn until it ends. */
export class TurnPoller {
  /** What the polls of this turn are registered as. */
  readonly key: string
  /** The turn as last seen, with all its blocks. */
  turn: Turn | null = null
  private readonly subscription: Subscription<TurnAnswer>
  private readonly leaveFeed: () => void
  private completed = false

  constructor(
    project: Project,
    session: string,
    turn: string,
    private readonly options: TurnPollerOptions = {}
  ) {
    const { manager = pollingManager, transport = 'poll' } = options
    const { interval = manager.settings.turnIntervalMs } = options
    this.manager = manager
    this.key = turnKey(project, session, turn)
    const onResult = (answer: TurnAnswer) => this.take(turnFrom(answer))
    const poll = pollTurn(project, session, turn)
    this.subscription = manager.register(this.key, poll, interval, { ...options, onResult })
    this.leaveFeed = joinFeed(
      manager,
      project,
      transport,
      this.key,
      (entry) => entry.kind === 'turn' && entry.turn_id === turn && entry.session_id === session
    )
  }

  private readonly manager: PollingManager

  /** The last error, until something succeeds. */
  get error(): Error | null {
    return this.subscription.error
  }

  /** Why it is not polled any more; null if it is. */
  get stopped(): StopReason | null {
    return this.subscription.stopped
  }

  /** Hold still, or go on. */
  enable(enabled: boolean): void {
    this.subscription.enable(enabled)
  }

  /** The turn as it is now. */
  async refresh(): Promise<Turn> {
    return turnFrom(await this.manager.refresh<TurnAnswer>(this.key))
  }

  /** End it: its request is aborted, and nothing is called back. */
  stop(): void {
    this.leaveFeed()
    this.subscription.unregister()
  }

  private async take(turn: Turn): Promise<void> {
    const known = this.turn?.blocks ?? []
    this.turn = turn
    const { onUpdate, onError, onComplete } = this.options
    try {
      await onUpdate?.(
        turn,
        turn.blocks.filter((block, index) => block !== known[index])
      )
    } finally {
      if (!this.completed && isFinished(turn.status)) {
        this.completed = true
        if (turn.status === 'failed') await onError?.(new TurnFailed(turn))
        await onComplete?.(turn)
      }
    }
  }
}

/** What the polls of a turn are registered as. */
export function turnKey(project: Project, session: string, turn: string): string {
  return `turn ${project.url} ${session} ${turn}`
}

/** The blocks that are known, and those that were told: one that is told again may have grown. */
function merged(known: Block[], told: Block[]): Block[] {
  const blocks = [...known]
  for (const block of told) {
    const old = blocks[block.index]
    if (old === undefined || JSON.stringify(old.content) !== JSON.stringify(block.content)) blocks[block.index] = block
  }
  return blocks
}

/** Asks for a turn, without the blocks that are known; gives it with all of them. */
function pollTurn(project: Project, session: string, turn: string): PollFunction<TurnAnswer> {
  let known: Block[] = []
  let active = false
  return async ({ cursor, signal }) => {
    const asked = { afterBlock: known.length, tag: cursor, signal }
    let { value, tag, backoffS } = await project.readTurn(session, turn, asked)
    if (value === null) return { changed: false, backoffS, active }
    if (value.block_count < known.length) {
      // The gateway was restored: what is known is not so any more.
      ;({ value, tag, backoffS } = await project.readTurn(session, turn, { signal }))
      known = []
    }
    if (value === null) return { changed: false, backoffS, active }
    known = merged(known, value.blocks)
    while (value.more) {
      ;({ value, tag, backoffS } = await project.readTurn(session, turn, { afterBlock: known.length, signal }))
      if (value === null) return { changed: false, backoffS, active }
      known = merged(known, value.blocks)
    }
    active = !isFinished(value.status)
    return { value: { ...value, blocks: known }, terminal: !active, cursor: tag, backoffS, active }
  }
}
