import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { SessionsPoller } from '../polling/sessions-poller.js'
import { gatewayKeys, sessionsQuery } from '../queries/index.js'
import type { Session } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { type PollingState, type StartPoller, usePoller } from './use-poller.js'

/** The options of `useSessions`; all are optional. */
export interface SessionsOptions {
  /** The number of sessions, the newest; default 100. */
  limit?: number
  enabled?: boolean
  /** Milliseconds. */
  interval?: number
  onError?: (error: Error) => void
}

/** The result of `useSessions`. */
export interface SessionsOfProject extends PollingState {
  /** Newest first; undefined until the list is loaded. */
  data: Session[] | undefined
  /** Create a session. */
  create(title?: string): Promise<Session>
  isCreating: boolean
}

/** The sessions of the project, kept up to date, for a menu of conversations. */
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
      void polling.refetch().catch(() => undefined) // the poll reports the error
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
