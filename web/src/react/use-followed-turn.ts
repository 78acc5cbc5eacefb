/** The common parts of `useSessionPolling` and `useTurn`. */
import { skipToken, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { TurnPoller, turnKey } from '../polling/turn-poller.js'
import { gatewayKeys } from '../queries/keys.js'
import { type Turn, turnFrom } from '../turn.js'
import type { TurnAnswer } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { type StartPoller, useLatest } from './use-poller.js'

/** How to follow a turn, and what to call. */
export interface TurnOptions {
  sessionId: string
  enabled?: boolean
  /** Milliseconds; default 2,000. */
  interval?: number
  /** Called with the turn and all its blocks whenever the turn has changed. */
  onUpdate?: (turn: Turn) => void
  /** Called when the turn has ended. */
  onComplete?: (turn: Turn) => void
  /** Called with the error of every failed attempt; if the turn failed, also with `TurnFailed`. */
  onError?: (error: Error) => void
}

/** A turn from the query cache, which its poller updates. Invalidating the query refetches the turn immediately. */
export function useCachedTurn(sessionId: string, turnId: string | undefined): Turn | undefined {
  const { project, manager } = useGateway()
  const read = async (turn: string, signal: AbortSignal) => {
    const key = turnKey(project, sessionId, turn)
    if (manager.has(key)) return turnFrom(await manager.refresh<TurnAnswer>(key))
    return turnFrom((await project.readTurn(sessionId, turn, { signal })).value as TurnAnswer)
  }
  const { data } = useQuery<Turn>({
    queryKey: gatewayKeys.turn(project, sessionId, turnId ?? ''),
    queryFn: turnId === undefined ? skipToken : ({ signal }) => read(turnId, signal),
    // The poller decides when to fetch; the query fetches only after an invalidation.
    enabled: ({ state }) => state.data !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false
  })
  return data
}

/** Create a function that starts to follow a turn, and writes it to the cache. */
export function useFollow({ sessionId, interval, onUpdate, onComplete }: TurnOptions, turnId: string): StartPoller {
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
