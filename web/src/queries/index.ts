/**
 * The reads of a project as `queryOptions` of TanStack Query: for `useQuery`, `useSuspenseQuery`, `prefetchQuery` and
 * route loaders of any framework. This module does not load TanStack Query.
 */
import type { WithETag } from '../answers.js'
import { isProblem } from '../errors.js'
import type { Project } from '../project.js'
import { type Turn, turnFrom } from '../turn.js'
import type { FileEntry, History, Session, TurnAnswer, TurnSummary } from '../wire.js'
import { gatewayKeys } from './keys.js'

export { gatewayKeys }

/** The options of a query, as `queryOptions()` accepts and returns them. */
export interface GatewayQuery<T, Key extends readonly unknown[]> {
  queryKey: Key
  queryFn(context: { signal: AbortSignal }): Promise<T>
}

/** The files of a project, ordered by path; empty if the project does not exist. */
export function filesQuery(
  project: Project,
  prefix = ''
): GatewayQuery<FileEntry[], ReturnType<typeof gatewayKeys.files>> {
  return {
    queryKey: gatewayKeys.files(project, prefix),
    queryFn: ({ signal }) => orNone(project.allFiles({ prefix, signal }))
  }
}

/** The text of a file, with the entity tag for `ifMatch`. */
export function textQuery(
  project: Project,
  path: string,
  root?: string
): GatewayQuery<WithETag<string>, ReturnType<typeof gatewayKeys.text>> {
  return {
    queryKey: gatewayKeys.text(project, path, root),
    queryFn: ({ signal }) => project.readText(path, root === undefined ? { signal } : { root, signal })
  }
}

/** The newest versions of a file. */
export function historyQuery(
  project: Project,
  path: string
): GatewayQuery<History, ReturnType<typeof gatewayKeys.history>> {
  return { queryKey: gatewayKeys.history(project, path), queryFn: ({ signal }) => project.history(path, { signal }) }
}

/** The newest sessions of a project; empty if the project does not exist. */
export function sessionsQuery(
  project: Project,
  limit = 100
): GatewayQuery<Session[], ReturnType<typeof gatewayKeys.sessions>> {
  return {
    queryKey: gatewayKeys.sessions(project, limit),
    queryFn: ({ signal }) => orNone(project.listSessions({ limit, signal }).then(({ sessions }) => sessions))
  }
}

/** The newest turns of a session, without their blocks. */
export function turnsQuery(
  project: Project,
  session: string,
  limit = 20
): GatewayQuery<TurnSummary[], ReturnType<typeof gatewayKeys.turns>> {
  return {
    queryKey: gatewayKeys.turns(project, session, limit),
    queryFn: async ({ signal }) => (await project.listTurns(session, { limit, signal })).turns
  }
}

/** A turn with all its blocks. */
export function turnQuery(
  project: Project,
  session: string,
  turn: string
): GatewayQuery<Turn, ReturnType<typeof gatewayKeys.turn>> {
  return {
    queryKey: gatewayKeys.turn(project, session, turn),
    queryFn: async ({ signal }) => {
      const read = async (afterBlock: number) =>
        (await project.readTurn(session, turn, { afterBlock, signal })).value as TurnAnswer
      let answer = await read(0)
      const blocks = [...answer.blocks]
      while (answer.more) {
        answer = await read(blocks.length)
        for (const block of answer.blocks) blocks[block.index] = block
      }
      return turnFrom({ ...answer, blocks })
    }
  }
}

async function orNone<T>(asked: Promise<T[]>): Promise<T[]> {
  try {
    return await asked
  } catch (error) {
    if (isProblem(error, 'project_not_found')) return [] // the first write creates the project
    throw error
  }
}
