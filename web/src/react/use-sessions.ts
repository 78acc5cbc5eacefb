import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { SessionsPoller } from '../polling/sessions-poller.js'
import { gatewayKeys, sessionsQuery } from '../queries/index.js'
import type { Session } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { type PollingState, type StartPoller, usePoller } from './use-poller.js'

export interface SessionsOptions {
  /** How many, the newest; 100 unless said. */
  limit?: number
  enabled?: boolean
  /** Milliseconds. */
  interval?: number
  onError?: (error: Error) => void
}

export interface SessionsOfProject extends PollingState {
  /** Newest first; undefined until they are there. */
  data: Session[] | undefined
  /** Begin a session. */
  create(title?: string): Promise<Session>
  isCreating: boolean
}

/** The sessions of the project, kept up to date: what a menu of conversations is made of. */
export function useSessions({
  limit = 100,
  enabled = true,
  interval,
  onError
}: SessionsOptions = {}): SessionsOfProject {
  const { project, manager, transport } = useGateway()
  const queryClient = useQueryClient()
  const { queryKey, queryFn } = sessionsQuery(project, limit)
  const { data } = useQuery({ queryKey, queryFn, enabled: false })
  const start = useCallback<StartPoller>(
    (callbacks) => {
      const { queryFn } = sessionsQuery(project, limit)
      const take = (sessions: Session[]) => queryClient.setQueryData(gatewayKeys.sessions(project, limit), sessions)
      const options = { ...callbacks, manager, transport, interval }
      return new SessionsPoller(project, (signal) => queryFn({ signal }), take, limit, options)
    },
    [project, manager, transport, interval, limit, queryClient]
  )
  const polling = usePoller(enabled ? start : null, onError)
  const creation = useMutation<Session, Error, string | undefined>({
    mutationFn: (title) => project.createSession(title),
    onSuccess: (session) => {
      queryClient.setQueryData<Session[]>(queryKey, (before = []) => [session, ...before].slice(0, limit))
      void polling.refetch().catch(() => undefined) // the poll says what failed
    }
  })
  return {
    ...polling,
    data,
    error: polling.error ?? creation.error,
    create: creation.mutateAsync,
    isCreating: creation.isPending
  }
}
