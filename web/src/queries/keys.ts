import type { Project } from '../project.js'

/** Under which keys things lie in TanStack Query's cache: to read, to invalidate, to set. */
export const gatewayKeys = {
  /** All of a project. */
  project: (project: Project) => ['gateway', project.url] as const,
  /** `FileEntry[]`, by path: those whose path begins with `prefix`. */
  files: (project: Project, prefix = '') => ['gateway', project.url, 'files', prefix] as const,
  /** All lists of files of a project. */
  allFiles: (project: Project) => ['gateway', project.url, 'files'] as const,
  /** `WithETag<string>`: the text of a file, of a root. */
  text: (project: Project, path: string, root = 'content') => ['gateway', project.url, 'text', path, root] as const,
  /** `History`: the newest versions of a file. */
  history: (project: Project, path: string) => ['gateway', project.url, 'history', path] as const,
  /** `Session[]`, newest first: so many. */
  sessions: (project: Project, limit: number) => ['gateway', project.url, 'sessions', limit] as const,
  /** `TurnSummary[]`, newest first: so many of a session. */
  turns: (project: Project, session: string, limit: number) =>
    ['gateway', project.url, 'turns', session, limit] as const,
  /** `Turn | null`: the newest of a session. Until the gateway has it, its id begins with `optimistic`. */
  latestTurn: (project: Project, session: string) => ['gateway', project.url, 'latest turn', session] as const,
  /** `Turn`, with all its blocks. */
  turn: (project: Project, session: string, turn: string) => ['gateway', project.url, 'turn', session, turn] as const
}
