/** What `useSessionPolling` and `useTurn` are made of. */
import { skipToken, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { TurnPoller, turnKey } from '../polling/turn-poller.js'
import { gatewayKeys } from '../queries/keys.js'
import { type Turn, turnFrom } from '../turn.js'
import type { TurnAnswer } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { type StartPoller, useLatest } from './use-poller.js'

/** What is told of a turn, and how it is followed. */
export interface TurnOptions {
  sessionId: string
  enabled?: boolean
  /** Milliseconds; 2,000 unless said. */
  interval?: number
  /** Called with the turn and all its blocks whenever it changed. */
  onUpdate?: (turn: Turn) => void
  /** Called when the turn has ended. */
  onComplete?: (turn: Turn) => void
  /** Called with the error of every failed attempt, and with `TurnFailed` when the turn has ended as failed. */
  onError?: (error: Error) => void
}

/** A turn as it lies in the cache, where its poll puts it. Invalidated there, it is asked for at once. */
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
    // The poll decides when to ask; only what was invalidated is asked for in between.
    enabled: ({ state }) => state.data !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false
  })
  return data
}

/** How to follow a turn into the cache. */
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
