import { skipToken, useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { LatestTurnPoller } from '../polling/latest-turn-poller.js'
import { gatewayKeys } from '../queries/keys.js'
import { type Turn, turnFrom } from '../turn.js'
import { isFinished, type TurnSummary } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { type TurnOptions, useCachedTurn, useFollow } from './use-followed-turn.js'
import { type StartPoller, usePoller } from './use-poller.js'
import type { SessionPolling } from './use-session-polling.js'

/** The id prefix of a turn that the gateway has not yet created. */
const OPTIMISTIC = 'optimistic'

/** The result of `useTurn`. */
export interface TurnOfSession extends SessionPolling {
  /** Create a turn. It is shown as `data` immediately, and removed if the gateway refuses it. */
  create(prompt: string): Promise<Turn>
  /** Whether a turn is being created. */
  isCreating: boolean
  /**
   * Cancel the turn. It is shown as cancelled immediately; if the gateway refuses that, the previous status is shown
   * again.
   */
  cancel(): Promise<void>
}

/** The newest turn of a session, and functions to create and cancel turns, for a chat. */
export function useTurn(sessionId: string, options: Omit<TurnOptions, 'sessionId'> = {}): TurnOfSession {
  const polling = useNewestTurn({ ...options, sessionId })
  const creation = useCreation(sessionId)
  const cancellation = useCancellation(sessionId)
  return {
    ...polling,
    error: polling.error ?? creation.error ?? cancellation.error,
    create: creation.mutateAsync,
    isCreating: creation.isPending,
    cancel: async () => {
      if (polling.data !== undefined && !isFinished(polling.data.status)) await cancellation.mutateAsync(polling.data)
    }
  }
}

/** Follow the newest turn of a session, including turns created later. */
function useNewestTurn(options: TurnOptions): SessionPolling {
  const { sessionId, enabled = true, onError } = options
  const { project } = useGateway()
  const queryKey = gatewayKeys.latestTurn(project, sessionId)
  const { data: latest } = useQuery<Turn | null>({ queryKey, queryFn: skipToken })
  const polled = useCachedTurn(sessionId, latest?.id)
  const data = polled ?? latest ?? undefined
  const isStored = latest != null && !latest.id.startsWith(OPTIMISTIC)
  // One poll at a time: the poll of the current turn or, if no turn is active, the poll that looks for the next turn.
  const isLooking = latest == null || (polled !== undefined && isFinished(polled.status))
  const follow = useFollow(options, latest?.id ?? '')
  const look = useLook(options)
  const following = usePoller(enabled && isStored && !isLooking ? follow : null, onError)
  const looking = usePoller(enabled && isLooking ? look : null, onError)
  return { data: enabled ? data : undefined, ...(isLooking ? { ...looking, isPolling: false } : following) }
}

/** Create a function that starts to look for the newest turn of a session. */
function useLook({ sessionId, interval }: TurnOptions): StartPoller {
  const { project, manager, transport } = useGateway()
  const queryClient = useQueryClient()
  return useCallback<StartPoller>(
    (callbacks) => {
      const take = (turn: TurnSummary) => {
        queryClient.setQueryData<Turn>(gatewayKeys.latestTurn(project, sessionId), turnFrom(turn))
      }
      return new LatestTurnPoller(project, sessionId, take, { ...callbacks, manager, transport, interval })
    },
    [project, manager, transport, interval, sessionId, queryClient]
  )
}

function useCreation(sessionId: string) {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  const queryKey = gatewayKeys.latestTurn(project, sessionId)
  return useMutation<Turn, Error, string, { before: Turn | null | undefined }>({
    mutationFn: async (prompt) => turnFrom(await project.createTurn(sessionId, prompt)),
    onMutate: (prompt) => {
      const before = queryClient.getQueryData<Turn | null>(queryKey)
      queryClient.setQueryData<Turn>(queryKey, optimisticTurn(sessionId, prompt))
      return { before }
    },
    onSuccess: (turn) => queryClient.setQueryData<Turn>(queryKey, turn),
    onError: (_error, _prompt, context) => queryClient.setQueryData<Turn | null>(queryKey, context?.before ?? null)
  })
}

function useCancellation(sessionId: string) {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  return useMutation<unknown, Error, Turn>({
    mutationFn: (turn) => project.setTurnStatus(sessionId, turn.id, 'cancelled'),
    onMutate: (turn) =>
      queryClient.setQueryData<Turn>(gatewayKeys.turn(project, sessionId, turn.id), { ...turn, status: 'cancelled' }),
    onError: (_error, turn) => queryClient.setQueryData<Turn>(gatewayKeys.turn(project, sessionId, turn.id), turn)
  })
}

function optimisticTurn(session: string, prompt: string): Turn {
  const now = new Date()
  return {
    id: `${OPTIMISTIC} ${now.toISOString()}`,
    session_id: session,
    prompt,
    status: 'pending',
    blocks: [],
    block_count: 0,
    created_at: now,
    last_updated: now
  }
}
