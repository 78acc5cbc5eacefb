import { useMutation, useQueryClient } from '@tanstack/react-query'
import { isFinished, type Turn } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { gatewayKeys } from './keys.js'
import {
  OPTIMISTIC,
  type SessionPolling,
  type SessionPollingOptions,
  useSessionPolling
} from './use-session-polling.js'

export interface TurnOfSession extends SessionPolling {
  /** Begin a turn. It is there at once as `data`, and gone again where the gateway refuses it. */
  create(prompt: string): Promise<Turn>
  /** Whether a turn is being created. */
  isCreating: boolean
  /** End the turn. It is shown as cancelled at once, and as before where the gateway refuses that. */
  cancel(): Promise<void>
}

/** The newest turn of a session, and how to begin and to end one: what a chat is made of. */
export function useTurn(
  sessionId: string,
  options: Omit<SessionPollingOptions, 'sessionId' | 'turnId'> = {}
): TurnOfSession {
  const polling = useSessionPolling({ ...options, sessionId })
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

function useCreation(sessionId: string) {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  const queryKey = gatewayKeys.latestTurn(project, sessionId)
  return useMutation<Turn, Error, string, { before: Turn | null | undefined }>({
    mutationFn: (prompt) => project.createTurn(sessionId, prompt),
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
  const now = new Date().toISOString()
  return {
    id: `${OPTIMISTIC} ${now}`,
    session_id: session,
    prompt,
    status: 'pending',
    blocks: [],
    block_count: 0,
    error: null,
    created_at: now,
    started_at: null,
    completed_at: null,
    last_updated: now
  }
}
