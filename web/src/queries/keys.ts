import type { Project } from '../project.js'

/** The keys of TanStack Query's cache, for reading, invalidating and setting data. */
export const gatewayKeys = {
  /** Everything of a project. */
  project: (project: Project) => ['gateway', project.url] as const,
  /** `FileEntry[]`, ordered by path: the files whose paths begin with `prefix`. */
  files: (project: Project, prefix = '') => ['gateway', project.url, 'files', prefix] as const,
  /** All lists of files of a project. */
  allFiles: (project: Project) => ['gateway', project.url, 'files'] as const,
  /** `WithETag<string>`: the text of a root of a file. */
  text: (project: Project, path: string, root = 'content') => ['gateway', project.url, 'text', path, root] as const,
  /** `History`: the newest versions of a file. */
  history: (project: Project, path: string) => ['gateway', project.url, 'history', path] as const,
  /** `Session[]`, newest first, at most `limit`. */
  sessions: (project: Project, limit: number) => ['gateway', project.url, 'sessions', limit] as const,
  /** `TurnSummary[]`, newest first, at most `limit` turns of a session. */
  turns: (project: Project, session: string, limit: number) =>
    ['gateway', project.url, 'turns', session, limit] as const,
  /** `Turn | null`: the newest turn of a session. Until the gateway has created it, its id begins with `optimistic`. */
  latestTurn: (project: Project, session: string) => ['gateway', project.url, 'latest turn', session] as const,
  /** `Turn`, with all its blocks. */
  turn: (project: Project, session: string, turn: string) => ['gateway', project.url, 'turn', session, turn] as const
}
