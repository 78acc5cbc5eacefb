/** A turn as pollers and hooks present it. */
import type { Block, TurnAnswer, TurnStatus, TurnSummary } from './wire.js'

/** A turn of a coding agent, with its blocks. Members without a value are absent. */
export interface Turn {
  id: string
  session_id: string
  prompt: string
  /** True if `prompt` is only the beginning of the prompt, as in turns from a list. */
  prompt_cut?: true
  status: TurnStatus
  blocks: Block[]
  block_count: number
  /** Why the turn failed. */
  error?: string
  created_at: Date
  started_at?: Date
  completed_at?: Date
  last_updated: Date
}

/** Passed to `onError` when a turn has ended as `failed`. */
export class TurnFailed extends Error {
  override name = 'TurnFailed'

  constructor(readonly turn: Turn) {
    super(turn.error ?? 'the turn failed')
  }
}

/** Convert an answer of the gateway into a turn; a summary has no blocks. */
export function turnFrom(answer: TurnAnswer | TurnSummary): Turn {
  const { error, created_at, started_at, completed_at, last_updated, ...rest } = answer
  return {
    blocks: [],
    ...rest,
    ...(error === null ? {} : { error }),
    created_at: new Date(created_at),
    ...(started_at === null ? {} : { started_at: new Date(started_at) }),
    ...(completed_at === null ? {} : { completed_at: new Date(completed_at) }),
    last_updated: new Date(last_updated)
  }
}
