import { skipToken, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { LatestTurnPoller } from '../latest-turn-poller.js'
import { TurnPoller } from '../turn-poller.js'
import { isFinished, type Turn, type TurnSummary } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { gatewayKeys } from './keys.js'
import { type PollingState, type StartPoller, useLatest, usePoller } from './use-poller.js'

export interface SessionPollingOptions {
  sessionId: string
  /** Left out: the newest turn of the session, also when there is a newer one. */
  turnId?: string | undefined
  enabled?: boolean
  /** Milliseconds. */
  interval?: number
  /** Called with the turn and all its blocks whenever it changed. */
  onUpdate?: (turn: Turn) => void
  /** Called when the turn has ended. */
  onComplete?: (turn: Turn) => void
  onError?: (error: Error) => void
}

export interface SessionPolling extends PollingState {
  /** The turn with all its blocks; undefined until it is there. */
  data: Turn | undefined
}

/** Marks a turn that the gateway does not have yet. */
export const OPTIMISTIC = 'optimistic'

/** Follow a turn until it ends. */
export function useSessionPolling(options: SessionPollingOptions): SessionPolling {
  const { sessionId, enabled = true, onError } = options
  const { project } = useGateway()
  const { data: latest } = useQuery<Turn | null>({
    queryKey: gatewayKeys.latestTurn(project, sessionId),
    queryFn: skipToken
  })
  const turnId = options.turnId ?? latest?.id
  const { data: polled } = useQuery<Turn>({
    queryKey: gatewayKeys.turn(project, sessionId, turnId ?? ''),
    queryFn: skipToken
  })
  const data = polled ?? (latest && latest.id === turnId ? latest : undefined)
  const ended = data !== undefined && isFinished(data.status)
  const isStored = turnId !== undefined && !turnId.startsWith(OPTIMISTIC)
  // One poll at a time: that of the turn, and where there is none that goes on, the one for the next.
  const isLooking = options.turnId === undefined && (turnId === undefined || (ended && polled !== undefined))
  const follow = useFollow(options, turnId ?? '')
  const look = useLook(options)
  const following = usePoller(enabled && isStored && !isLooking ? follow : null, onError)
  const looking = usePoller(enabled && isLooking ? look : null, onError)
  return { data, ...(isLooking ? { ...looking, isPolling: false } : following) }
}

/** Follows a turn. */
function useFollow({ sessionId, interval, onUpdate, onComplete }: SessionPollingOptions, turnId: string): StartPoller {
  const { project, manager, transport } = useGateway()
  const queryClient = useQueryClient()
  const tell = useLatest({ onUpdate, onComplete })
  return useCallback<StartPoller>(
    (callbacks) =>
      new TurnPoller(project, sessionId, turnId, {
        ...callbacks,
        manager,
        transport,
        interval,
        onUpdate: (turn) => {
          queryClient.setQueryData(gatewayKeys.turn(project, sessionId, turnId), turn)
          tell.current.onUpdate?.(turn)
        },
        onComplete: (turn) => tell.current.onComplete?.(turn)
      }),
    [project, manager, transport, interval, sessionId, turnId, queryClient, tell]
  )
}

/** Looks for the newest turn of a session. */
function useLook({ sessionId, interval }: SessionPollingOptions): StartPoller {
  const { project, manager, transport } = useGateway()
  const queryClient = useQueryClient()
  return useCallback<StartPoller>(
    (callbacks) => {
      const take = (turn: TurnSummary) => {
        queryClient.setQueryData<Turn>(gatewayKeys.latestTurn(project, sessionId), { ...turn, blocks: [] })
      }
      return new LatestTurnPoller(project, sessionId, take, { ...callbacks, manager, transport, interval })
    },
    [project, manager, transport, interval, sessionId, queryClient]
  )
}
