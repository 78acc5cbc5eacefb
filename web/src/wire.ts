/** What requests and answers carry, as it stands on the wire. Times are RFC 3339 in UTC with milliseconds. */

export type ChangeType = 'created' | 'modified' | 'deleted'
export type TurnStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled'
export type BlockType = 'text' | 'thinking' | 'tool_use' | 'tool_result' | 'error' | 'system' | 'result'

/** What a write answers. */
export interface Receipt {
  path: string
  version: number
  last_modified: string
  /** The point in the project's sequence at which this version was written. */
  cursor: string
  /** False where the write added nothing: no new version was made. */
  changed: boolean
  /** True where a part of the update was left out: it builds on something that the gateway lacks. */
  incomplete?: boolean
  /** With `incomplete`: what the gateway has now, base64url. */
  state_vector?: string
  /** With a base version: true where the file had moved on, so that the text is not the one that was sent. */
  merged?: boolean
}

/** Replace `old`, which must be in the text exactly once (with `all`: every occurrence), or a range in UTF-16 code units. */
export type RequestedEdit = { old: string; new: string; all?: boolean } | { start: number; end: number; text: string }

export interface FileEntry {
  path: string
  version: number
  last_modified: string
  /** Bytes of the updates stored for the file's present incarnation. */
  size: number
}

export interface ProjectEntry {
  id: string
  /** The newest position in the project's sequence of changes. */
  cursor: string
  last_modified: string
  /** How many files there are; null where the token lets see only some of them. */
  files: number | null
  /** Bytes of the updates stored for these files, without what is stored of deleted ones; null as for `files`. */
  size: number | null
}

export interface ProjectListing {
  projects: ProjectEntry[]
  /** The `after` of the next page; null on the last. */
  next: string | null
}

export interface FileListing {
  files: FileEntry[]
  cursor: string
  /** The `after` of the next page; null on the last. */
  next: string | null
}

/** A file that was deleted and can be restored. */
export interface DeletedFile {
  path: string
  /** That of the tombstone; the version before it is what the file was last. */
  version: number
  last_modified: string
  /** Who deleted the file, if that was said. */
  author: string | null
}

export interface DeletedListing {
  files: DeletedFile[]
  cursor: string
  /** The `after` of the next page; null on the last. */
  next: string | null
}

export interface FileChange {
  path: string
  last_modified: string
  version: number
  change_type: ChangeType
  /** True where the client's version is ahead of the server's, which was restored: start over. */
  reset?: true
}

export interface StatusAnswer {
  changes: FileChange[]
  cursor: string
  /** True where `since` is of another epoch: `changes` is the whole listing. */
  reset?: true
}

/** A file that changed: its newest state. */
export interface FileFeedEntry {
  kind: 'file'
  path: string
  last_modified: string
  version: number
  change_type: ChangeType
  /**
   * With `changesAsText`: the version that the client has, 0 for none; null where that is not known any more. With
   * `update`: the version that it builds on.
   */
  from_version?: number | null
  /** With `include: 'update'`: the life of the file that `update` is of. */
  incarnation?: string
  /** With `include: 'update'`, where it is small: what was added since `from_version`, in base64. */
  update?: string
  /** With `changesAsText`: who wrote what came after it, as far as that was said. */
  authors?: string[]
  /** With `changesAsText`: what changed, as `diff -u` writes it. null: past `maxBytes`, or it is no text. */
  diff?: string | null
}

/** A turn that changed: its newest state. */
export interface TurnFeedEntry extends TurnState {
  kind: 'turn'
  session_id: string
  turn_id: string
  /** With `changesAsText`: its beginning. */
  prompt?: string
}

export type FeedEntry = FileFeedEntry | TurnFeedEntry

/** A stretch of the change feed. */
export interface FeedAnswer {
  changes: FeedEntry[]
  /** How far the answer has looked, also where a filter left nothing to show. */
  cursor: string
  /** True where there is more after the cursor already. */
  more: boolean
  /** True where `since` is of another epoch: `changes` begins with the whole listing. */
  reset?: true
}

export interface VersionEntry {
  /** With `group` the newest of the run. */
  version: number
  last_modified: string
  size: number
  author: string | null
  /** The id of the credential that it was written with, or several, separated by a comma and a space. */
  credential?: string
  /** True where the version is a tombstone. */
  deleted?: true
  /** With `group` the oldest of the run. */
  first_version?: number
}

export interface History {
  /** Newest first. */
  versions: VersionEntry[]
  /** The `before` of the next page; null on the last. */
  next: number | null
}

/** Replace the code points from `start` to `end` of the older text with `text`. */
export interface TextEdit {
  start: number
  end: number
  text: string
}

export interface TextDifference {
  from: number
  to: number
  edits: TextEdit[]
}

export interface Session {
  id: string
  title: string | null
  created_at: string
}

export interface SessionListing {
  /** Newest first. */
  sessions: Session[]
  next: string | null
}

/** The least that tells whether to read a turn again. */
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
  /** True where `prompt` is only the beginning of the prompt: in lists. */
  prompt_cut?: true
  error: string | null
  created_at: string
  started_at: string | null
  completed_at: string | null
}

export interface Block {
  id: string
  /** Counts from 0 within the turn. */
  index: number
  type: BlockType
  /** Any JSON value. */
  content: unknown
  created_at: string
}

/** What was added to the text of a block. */
export interface BlockDelta {
  index: number
  delta: string
}

/** The state of a turn, in its event stream. */
export interface TurnProgress extends TurnState {
  /** Why it failed. */
  error: string | null
}

/** A turn as the gateway answers it; `Turn` is what pollers and hooks make of it. */
export interface TurnAnswer extends TurnSummary {
  /** Without the first `after_block` of them, but for those that may have grown since they were told. */
  blocks: Block[]
  /** True where the blocks are too many for one answer: ask again at once, after the last of these. */
  more?: true
}

export interface TurnListing {
  /** Newest first. */
  turns: TurnSummary[]
  next: string | null
}

/** The turn just after the batch was stored; a retry is told the same. */
export interface BlocksReceipt extends TurnState {
  first_index: number
}

/** The turn after the output was taken. */
export interface OutputReceipt extends TurnState {
  /** How many bytes of the stream are stored: a sender goes on from there. */
  offset: number
  /** The turn fails unless the next write comes within so many seconds. */
  lease: number
  /** How the turn ends when its output has ended, by the last result in the output. */
  result?: TurnStatus
}

/** Somebody who is in a file. */
export interface PresenceClient {
  client_id: number
  clock: number
  /** The awareness state, as editors use it. */
  state: unknown
  /** Whose credential said so; null where nobody is asked for one. */
  subject: string | null
  /** Seconds until it is withdrawn, unless it is said again. */
  expires_in: number
}

/** Everybody who is in a file. */
export interface PresenceAnswer {
  clients: PresenceClient[]
  /** Another one whenever somebody came, left or said something else. */
  version: string
}

/** The same, as an event of the feed. */
export interface PresenceEvent extends PresenceAnswer {
  path: string
}

export interface Health {
  status: 'ok' | 'degraded'
  /** Of `/readyz`: what was looked at, and `ok` or what is wrong with it. */
  checks?: Record<string, string>
}

/** RFC 9457, with a stable machine name in `code`. */
export interface ProblemDetails {
  type: string
  title: string
  status: number
  detail: string
  code: string
  /** With `missing_predecessors`: what the server has, base64url. */
  state_vector?: string
  /** With `not_a_text`: by name the kind of each root that holds something. */
  roots?: Record<string, string>
  /** With `sync_refused`: by file its problem, or null. */
  results?: Record<string, ProblemDetails | null>
  /** With `turn_finished` and `illegal_transition`: the status that the turn has. */
  turn_status?: TurnStatus
  /** With `block_conflict`: how many blocks the turn has. */
  block_count?: number
  /** With 503 and 507: true where nothing was stored, false where it may have been. */
  certain?: boolean
  /** With `output_conflict`: how many bytes of the stream are stored. */
  offset?: number
  /** With `edit_not_applicable`: which of the edits, from 0. */
  index?: number
  /** With `edit_not_applicable`: how often its old text was found. */
  found?: number
}

/** Whether a turn has ended. */
export function isFinished(status: TurnStatus): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled'
}
