import type { Project } from '../project.js'

/** Under which keys things lie in TanStack Query's cache: to read, to invalidate, to set. */
export const gatewayKeys = {
  /** All of a project. */
  project: (project: Project) => ['gateway', project.url] as const,
  /** `FileEntry[]`, by path: those whose path begins with `prefix`. */
  files: (project: Project, prefix = '') => ['gateway', project.url, 'files', prefix] as const,
  /** All lists of files of a project. */
  allFiles: (project: Project) => ['gateway', project.url, 'files'] as const,
  /** `Turn | null`: the newest of a session. Until the gateway has it, its id begins with `optimistic`. */
  latestTurn: (project: Project, session: string) => ['gateway', project.url, 'latest turn', session] as const,
  /** `Turn`, with all its blocks. */
  turn: (project: Project, session: string, turn: string) => ['gateway', project.url, 'turn', session, turn] as const
}
