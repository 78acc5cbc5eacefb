import type { Turn } from '../turn.js'
import { type TurnOptions, useCachedTurn, useFollow } from './use-followed-turn.js'
import { type PollingState, usePoller } from './use-poller.js'

/** The options of `useSessionPolling`. */
export interface UseSessionPollingOptions extends TurnOptions {
  /** If undefined, no turn is followed. */
  turnId?: string | undefined
}

/** The result of `useSessionPolling`. */
export interface SessionPolling extends PollingState {
  /** The turn with all its blocks; undefined until it is loaded, or if no turn is followed. */
  data: Turn | undefined
}

/** Follow a turn until it ends. */
export function useSessionPolling(options: UseSessionPollingOptions): SessionPolling {
  const { sessionId, turnId, enabled = true, onError } = options
  const isFollowed = enabled && turnId !== undefined
  const turn = useCachedTurn(sessionId, turnId)
  const follow = useFollow(options, turnId ?? '')
  return { data: isFollowed ? turn : undefined, ...usePoller(isFollowed ? follow : null, onError) }
}
