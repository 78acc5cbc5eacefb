import { useQueries, useQuery } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { turnQuery, turnsQuery } from '../queries/index.js'
import { type Turn, turnFrom } from '../turn.js'
import { isFinished } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import type { TurnOptions } from './use-followed-turn.js'
import { type TurnOfSession, useTurn } from './use-turn.js'

/** The options of `useTurns`; all are optional. */
export interface TurnsOptions extends Omit<TurnOptions, 'sessionId'> {
  /** The number of turns per page; default 20. */
  pageSize?: number
}

/** The result of `useTurns`. */
export interface TurnsOfSession extends Omit<TurnOfSession, 'data'> {
  /** Oldest first, with their blocks; undefined until they are loaded. */
  data: Turn[] | undefined
  /** Whether there are older turns. */
  hasMore: boolean
  /** Load another page. */
  showMore(): void
}

/** The turns of a session as a conversation. The newest turn is followed. */
export function useTurns(sessionId: string, { pageSize = 20, ...options }: TurnsOptions = {}): TurnsOfSession {
  const { project, manager } = useGateway()
  const { enabled = true, interval = manager.settings.turnIntervalMs } = options
  const [shown, setShown] = useState({ sessionId, count: pageSize })
  const count = shown.sessionId === sessionId ? shown.count : pageSize
  const { data: newest, ...turn } = useTurn(sessionId, options)
  const list = useQuery({ ...turnsQuery(project, sessionId, count), enabled, placeholderData: (before) => before })
  const { data: summaries, refetch } = list
  const listed = newest === undefined || summaries?.some(({ id }) => id === newest.id)
  const stored = newest !== undefined && newest.id.startsWith('optimistic') === false
  useEffect(() => {
    if (stored && listed === false) void refetch()
  }, [stored, listed, refetch])
  const older = (summaries ?? []).filter(({ id, session_id }) => id !== newest?.id && session_id === sessionId)
  const read = useQueries({
    queries: older.map(({ id }) => ({
      ...turnQuery(project, sessionId, id),
      enabled,
      staleTime: Number.POSITIVE_INFINITY,
      refetchInterval: ({ state }: { state: { data: Turn | undefined } }) =>
        state.data !== undefined && !isFinished(state.data.status) ? interval : (false as const)
    }))
  })
  const turns = older.map((summary, index) => read[index]?.data ?? turnFrom(summary)).reverse()
  return {
    ...turn,
    error: turn.error ?? list.error ?? read.find(({ error }) => error !== null)?.error ?? null,
    data: summaries === undefined ? undefined : newest === undefined ? turns : [...turns, newest],
    hasMore: (summaries?.length ?? 0) >= count,
    showMore: () => setShown({ sessionId, count: count + pageSize })
  }
}
