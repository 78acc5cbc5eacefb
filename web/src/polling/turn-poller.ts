import type { StopReason } from '../policy.js'
import type { Project } from '../project.js'
import { type Turn, TurnFailed, turnFrom } from '../turn.js'
import { type Block, isFinished, type TurnAnswer } from '../wire.js'
import { type PollingManager, pollingManager } from './manager.js'
import { joinFeed, type PollTransport } from './project-feed.js'
import type { PollCallbacks, PollFunction, Subscription } from './subscription.js'

/** The options of every poller. */
export interface PollerOptions extends Omit<PollCallbacks<never>, 'onResult'> {
  manager?: PollingManager | undefined
  /** Milliseconds. */
  interval?: number | undefined
  transport?: PollTransport | undefined
  /** False: the poller is suspended until it is enabled. */
  enabled?: boolean | undefined
}

/** The options and callbacks of a turn poller. */
export interface TurnPollerOptions extends PollerOptions {
  /** Called with the turn and all its blocks, and with the new and the grown blocks, in order. */
  onUpdate?: ((turn: Turn, blocks: Block[]) => unknown) | undefined
  /** Called with the error of every failed attempt; if the turn failed, also with `TurnFailed`. */
  onError?: ((error: Error) => unknown) | undefined
  /** Called once, after the last update, when the turn is completed, failed or cancelled. */
  onComplete?: ((turn: Turn) => unknown) | undefined
}

/** Follows a turn until it ends. Pollers that follow the same turn share their requests. */
export class TurnPoller {
  /** The key of the poll in the manager. */
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

  /** The last error; null again after the next success. */
  get error(): Error | null {
    return this.subscription.error
  }

  /** Why the poller no longer polls; null if it does. */
  get stopped(): StopReason | null {
    return this.subscription.stopped
  }

  /** Suspend or resume the poller. */
  enable(enabled: boolean): void {
    this.subscription.enable(enabled)
  }

  /** The current state of the turn. Rejects with the error of the request. */
  async refresh(): Promise<Turn> {
    return turnFrom(await this.manager.refresh<TurnAnswer>(this.key))
  }

  /** Stop polling: the request in flight is aborted, and no callback is called. */
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

/** The key under which the polls of a turn are registered. */
export function turnKey(project: Project, session: string, turn: string): string {
  return `turn ${project.url} ${session} ${turn}`
}

/** Add new blocks to the known ones, and replace blocks that were sent again because they grew. */
function merged(known: Block[], told: Block[]): Block[] {
  const blocks = [...known]
  for (const block of told) {
    const old = blocks[block.index]
    if (old === undefined || JSON.stringify(old.content) !== JSON.stringify(block.content)) blocks[block.index] = block
  }
  return blocks
}

/** Reads a turn incrementally, without the known blocks; returns it with all blocks. */
function pollTurn(project: Project, session: string, turn: string): PollFunction<TurnAnswer> {
  let known: Block[] = []
  let active = false
  return async ({ cursor, signal }) => {
    const asked = { afterBlock: known.length, tag: cursor, signal }
    let { value, tag, backoffS } = await project.readTurn(session, turn, asked)
    if (value === null) return { changed: false, backoffS, active }
    if (value.block_count < known.length) {
      // The gateway was restored: the known blocks are no longer valid.
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
