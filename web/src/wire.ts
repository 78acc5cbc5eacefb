/** The types of request and answer bodies. Times are RFC 3339 in UTC with milliseconds. */

export type ChangeType = 'created' | 'modified' | 'deleted'
export type TurnStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled'
export type BlockType = 'text' | 'thinking' | 'tool_use' | 'tool_result' | 'error' | 'system' | 'result'

/** The answer to a write. */
export interface Receipt {
  path: string
  version: number
  last_modified: string
  /** The point in the project's sequence at which this version was written. */
  cursor: string
  /** False if the write added nothing, so no new version was created. */
  changed: boolean
  /** True if a part of the update was not applied because it builds on updates that the gateway is missing. */
  incomplete?: boolean
  /** With `incomplete`: the gateway's state vector after the write, base64url. */
  state_vector?: string
  /** With a base version: true if the file had changed since that version, so the text differs from what was sent. */
  merged?: boolean
}

/** Replaces `old`, which must occur exactly once (with `all`: every occurrence), or a range in UTF-16 code units. */
export type RequestedEdit = { old: string; new: string; all?: boolean } | { start: number; end: number; text: string }

/** A file in a listing. */
export interface FileEntry {
  path: string
  version: number
  last_modified: string
  /** Bytes of the updates stored for the file's current incarnation. */
  size: number
}

/** A project in a listing. */
export interface ProjectEntry {
  id: string
  /** The newest position in the project's sequence of changes. */
  cursor: string
  last_modified: string
  /** The number of files that exist; null if the token sees only some of them. */
  files: number | null
  /** Bytes of the updates stored for these files, without what is stored of deleted ones; null as for `files`. */
  size: number | null
}

/** A page of the projects. */
export interface ProjectListing {
  projects: ProjectEntry[]
  /** The `after` of the next page; null on the last page. */
  next: string | null
}

/** A page of the existing files, ordered by path. */
export interface FileListing {
  files: FileEntry[]
  /** The newest position in the project's sequence of changes. */
  cursor: string
  /** The `after` of the next page; null on the last page. */
  next: string | null
}

/** A deleted file that can be restored. */
export interface DeletedFile {
  path: string
  /** The version of the tombstone; the version before it holds the last content of the file. */
  version: number
  last_modified: string
  /** Who deleted the file, if known. */
  author: string | null
}

/** A page of the deleted files. */
export interface DeletedListing {
  files: DeletedFile[]
  /** The newest position in the project's sequence of changes. */
  cursor: string
  /** The `after` of the next page; null on the last page. */
  next: string | null
}

/** A file that changed, in the answer to a status question. */
export interface FileChange {
  path: string
  last_modified: string
  version: number
  change_type: ChangeType
  /** True if the client's version is newer than the gateway's, which was restored: the client must start over. */
  reset?: true
}

/** The answer to a status question. */
export interface StatusAnswer {
  changes: FileChange[]
  /** The cursor for the next status question. */
  cursor: string
  /** True if `since` is from another epoch: `changes` is then the complete listing. */
  reset?: true
}

/** The newest state of a file that changed. */
export interface FileFeedEntry {
  kind: 'file'
  path: string
  last_modified: string
  version: number
  change_type: ChangeType
  /**
   * With `changesAsText`: the version that the client has, 0 for none; null if it is no longer known. With `update`:
   * the version that it builds on.
   */
  from_version?: number | null
  /** With `include: 'update'`: the incarnation of the file that `update` belongs to. */
  incarnation?: string
  /** With `include: 'update'`, if it is small: everything since `from_version`, in base64. */
  update?: string
  /** With `changesAsText`: the authors of the later versions, as far as they are known. */
  authors?: string[]
  /**
   * With `changesAsText`: the changes of the text as a unified diff; null if they exceed `maxBytes` or the root is not
   * a text.
   */
  diff?: string | null
}

/** The newest state of a turn that changed. */
export interface TurnFeedEntry extends TurnState {
  kind: 'turn'
  session_id: string
  turn_id: string
  /** With `changesAsText`: the beginning of the prompt. */
  prompt?: string
}

/** An entry of the change feed. */
export type FeedEntry = FileFeedEntry | TurnFeedEntry

/** A section of the change feed. */
export interface FeedAnswer {
  changes: FeedEntry[]
  /** The position up to which the feed was read, even if the filter matched nothing. */
  cursor: string
  /** True if there are already more changes after `cursor`. */
  more: boolean
  /** True if `since` is from another epoch: `changes` then begins with the complete listing. */
  reset?: true
}

/** A version of a file or, with `group`, consecutive versions by one author. */
export interface VersionEntry {
  /** With `group`: the newest version of the group. */
  version: number
  last_modified: string
  size: number
  /** Who wrote the version; null if unknown. */
  author: string | null
  /** The id of the credential that the version was written with, or several ids, separated by a comma and a space. */
  credential?: string
  /** True if the version is a tombstone. */
  deleted?: true
  /** With `group`: the oldest version of the group. */
  first_version?: number
}

/** A page of the history of a file. */
export interface History {
  /** Newest first. */
  versions: VersionEntry[]
  /** The `before` of the next page; null on the last page. */
  next: number | null
}

/** Replaces the code points from `start` to `end` of the older text with `text`. */
export interface TextEdit {
  start: number
  end: number
  text: string
}

/** The changes of a text between two versions. The edits are in ascending order, and refer to the older text. */
export interface TextDifference {
  from: number
  to: number
  edits: TextEdit[]
}

/** A session: a conversation with a coding agent. */
export interface Session {
  id: string
  title: string | null
  created_at: string
}

/** A page of the sessions of a project. */
export interface SessionListing {
  /** Newest first. */
  sessions: Session[]
  next: string | null
}

/** The brief state that tells whether a turn has changed. */
export interface TurnState {
  status: TurnStatus
  block_count: number
  last_updated: string
}

/** A turn without its blocks. */
export interface TurnSummary extends TurnState {
  id: string
  session_id: string
  prompt: string
  /** True if `prompt` is only the beginning of the prompt, as in lists. */
  prompt_cut?: true
  error: string | null
  created_at: string
  started_at: string | null
  completed_at: string | null
}

/** A block of a turn: a piece of what the agent wrote or did. */
export interface Block {
  id: string
  /** The position of the block within the turn, starting at 0. */
  index: number
  type: BlockType
  /** Any JSON value. */
  content: unknown
  created_at: string
}

/** Text appended to a block. */
export interface BlockDelta {
  index: number
  delta: string
}

/** The state of a turn, as an event of its stream. */
export interface TurnProgress extends TurnState {
  /** Why the turn failed. */
  error: string | null
}

/** A turn as the gateway returns it; pollers and hooks convert it into `Turn`. */
export interface TurnAnswer extends TurnSummary {
  /** Without the first `after_block` blocks, except those that may have grown since they were sent. */
  blocks: Block[]
  /** True if the blocks do not fit into one answer: ask again immediately, after the last of these blocks. */
  more?: true
}

/** A page of the turns of a session. */
export interface TurnListing {
  /** Newest first. */
  turns: TurnSummary[]
  next: string | null
}

/** The turn just after the batch was stored; a retry gets the same answer. */
export interface BlocksReceipt extends TurnState {
  first_index: number
}

/** The turn after the output was stored. */
export interface OutputReceipt extends TurnState {
  /** The number of bytes of the stream that are stored: the sender continues from there. */
  offset: number
  /** The turn fails unless the next write arrives within this many seconds. */
  lease: number
  /** The status with which the turn will end after its output, according to the last result in the output. */
  result?: TurnStatus
}

/** A client that is in a file. */
export interface PresenceClient {
  client_id: number
  clock: number
  /** The awareness state as editors use it. */
  state: unknown
  /** The subject of the credential that announced the state; null if the gateway does not require credentials. */
  subject: string | null
  /** Seconds until the state is withdrawn unless the client announces it again. */
  expires_in: number
}

/** All clients that are in a file. */
export interface PresenceAnswer {
  clients: PresenceClient[]
  /** Changes whenever a client joins, leaves or changes its state. */
  version: string
}

/** All clients that are in a file, as an event of the change feed. */
export interface PresenceEvent extends PresenceAnswer {
  path: string
}

/** The health of the gateway. `degraded`: requests are answered, but something in the background does not work. */
export interface Health {
  status: 'ok' | 'degraded'
  /** Of `/readyz`, by check: `ok` or a description of the fault. */
  checks?: Record<string, string>
}

/** Problem details (RFC 9457) with a stable machine-readable name in `code`. */
export interface ProblemDetails {
  type: string
  title: string
  status: number
  detail: string
  code: string
  /** With `missing_predecessors`: the gateway's state vector, base64url. */
  state_vector?: string
  /** With `not_a_text`: the kind of each non-empty root by name: text, array, map or xml. */
  roots?: Record<string, string>
  /** With `sync_refused`: the problem of each file, or null. */
  results?: Record<string, ProblemDetails | null>
  /** With `turn_finished` and `illegal_transition`: the current status of the turn. */
  turn_status?: TurnStatus
  /** With `block_conflict`: the number of blocks that the turn has. */
  block_count?: number
  /** With 503 and 507: true if nothing was stored, false if the write may have been stored. */
  certain?: boolean
  /** With `output_conflict`: the number of bytes of the stream that are stored. */
  offset?: number
  /** With `edit_not_applicable`: the index of the edit, starting at 0. */
  index?: number
  /** With `edit_not_applicable`: the number of occurrences of the old text. */
  found?: number
}

/** Whether a turn has ended. */
export function isFinished(status: TurnStatus): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled'
}
